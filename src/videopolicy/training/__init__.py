"""How parts learn: the stages of a recipe with their keys, the loop, checkpoints, features, scaling.

May import `recipes` and below. `evaluation` gets from it the trained policy; only `lightning_loop` and `processes`
import Lightning.
"""

SECONDS_BETWEEN_CHECKPOINTS = 20.0
"""What a killed training loses at most, by the clock."""
