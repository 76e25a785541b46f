"""Policies served over the network: several robots, one forward pass.

May import `deployment` and below; `vpolicy serve` is its interface. `questions` reads what a robot sends,
`conversation` goes on with one robot, `batching` brings those together who ask at the same time, `metrics` counts,
`server` listens.
"""
