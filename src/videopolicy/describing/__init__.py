"""Pages on parts: what one is, what a recipe can say about it, and how to write that.

The pages are Markdown that is read as it is in a terminal of 80 columns. May import `scaffold` and `testing` (to name
what is there), `components` and below; only the command line uses it.
"""
