"""What a recipe's policy costs: time, memory, parameters, floating-point operations. No simulator, no data."""

from videopolicy.bench.run import bench, sweep
from videopolicy.bench.settings import Settings

__all__ = ["Settings", "bench", "sweep"]
