"""New parts from templates: a package, or a single file, that keeps the promises of its kind as written.

May import `components` and below; only the command line uses it.
"""
