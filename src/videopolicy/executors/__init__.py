"""Where work is done: in this process, or cut into units that a cluster carries out.

May import `evaluation`, `data` and below. `running` and `ablate` are given an engine and do not ask which.
"""
