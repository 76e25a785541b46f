"""A trained policy outside evaluations: loaded from a run or an exported folder, and asked in physical units.

May import `evaluation` and below. `videopolicy.load` is its whole interface for Python; `vpolicy export` writes folders
that need neither data nor store.
"""

from videopolicy.deployment.exporting import export
from videopolicy.deployment.loading import load
from videopolicy.deployment.policy import DeployedPolicy

__all__ = ["DeployedPolicy", "export", "load"]
