"""Evaluation episodes and what they add up to: records, rates with intervals, tests between methods, published numbers.

May import `storage` and below. `evaluation` appends the records; `report`, `compare` and `ablate` read them.
"""
