"""Runs the rows of an ablation and sets what comes out beside what a paper printed."""
