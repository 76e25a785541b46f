"""The data of a recipe: opened, or collected first from the benchmark's own experts.

May import `simulators` and below. Training gets an open data set from it and knows nothing of how it came to be.
"""
