"""Recipes and ablations: YAML with lines and overrides, completed and checked as a whole before any weight is built.

May import `components` and below. Every room above is given a `Recipe`.
"""
