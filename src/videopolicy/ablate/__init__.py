"""Runs the rows of an ablation and sets what comes out beside what a paper printed.

May import `running`, `compare`, `bench` and below; only the command line uses it.
"""
