"""Policies at work: acting in simulators, episode by episode, and predicting videos.

May import `training`, `simulators` and below. `executors` calls it here or on other machines.
"""
