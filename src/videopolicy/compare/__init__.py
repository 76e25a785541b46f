"""Compares runs on one benchmark: fair tables, tests, published numbers beside them."""
