"""The command line: one module per verb. Heavy imports stand inside the functions.

May import everything; nothing but `__main__` imports it.
"""
