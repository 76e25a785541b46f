"""Work on other machines: shards of an evaluation and stages of training as units that an engine may run anywhere.

A unit says all that it needs and has a deterministic id. What it returns reaches the driver, the process in which the
user has typed the command; the driver alone writes to run folders. An engine may therefore run a unit again, or on
another machine, and nothing is counted twice (``docs/scaling.md``).
"""
