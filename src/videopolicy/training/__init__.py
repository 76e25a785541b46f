"""How parts learn: the stages of a recipe with their keys, the loop, checkpoints, features, scaling.

May import `recipes` and below. `evaluation` gets from it the trained policy; only `averaging`, `lightning_loop`,
`processes`, `saving` and `sharding` import Lightning.
"""

SECONDS_BETWEEN_CHECKPOINTS = 20.0
"""What a killed training loses at most, by the clock, unless that would take more than this share of the time:"""
SHARE_OF_SAVING = 0.02
"""Part of the time for which training waits for checkpoints at most; those of large models take seconds to copy."""
