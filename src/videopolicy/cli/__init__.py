"""The command line: one module per verb. Heavy imports stand inside the functions."""
