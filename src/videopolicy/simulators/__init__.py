"""Simulators in processes and environments of their own.

May import `recipes` and below. `data` collects demonstrations through its workers, `evaluation` runs episodes.
"""
