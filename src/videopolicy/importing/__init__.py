"""Published weights of other code bases, read without running them, under the names of our modules.

May import `training` and below; only the command line and `quality` (for its networks) use it.
"""
