"""Policies in somebody else's Python: loaded from a run or an exported folder, asked in physical units, evaluated.

May import `running`, `compare`, `evaluation` and below. `videopolicy.load`, `evaluate`, `run` and `results` are its
interface; `vpolicy export` writes folders that need neither data nor store, and `vpolicy push` publishes them.
"""

from videopolicy.deployment.evaluating import Acts, Evaluated, evaluate
from videopolicy.deployment.exporting import export
from videopolicy.deployment.loading import load
from videopolicy.deployment.policy import DeployedPolicy
from videopolicy.deployment.recipes import results, run

__all__ = ["Acts", "DeployedPolicy", "Evaluated", "evaluate", "export", "load", "results", "run"]
