"""What plugins share, so that none writes it again; with `videopolicy` and `videopolicy.testing` their whole API.

May import `storage` and below. Nothing in the core needs it but for what `testing` makes up.
"""
