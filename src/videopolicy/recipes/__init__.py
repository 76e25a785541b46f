"""Recipes and ablations, read and checked."""
