"""What a recipe's policy costs: time, memory, parameters, floating-point operations. No simulator, no data.

May import `testing`, `evaluation` and below; `ablate` gets from it the sizes of stages.
"""

from videopolicy.bench.run import bench, sweep
from videopolicy.bench.settings import Settings

__all__ = ["Settings", "bench", "sweep"]
