"""Weights that others have published, brought into our folders: what `vpolicy import` does."""
