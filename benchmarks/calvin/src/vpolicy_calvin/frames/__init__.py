"""Recorded demonstrations: one file for every frame, and sentences for some stretches of them."""
