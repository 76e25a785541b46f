"""What must stay equal for episodes to belong into one run folder."""

from __future__ import annotations

from collections.abc import Sequence

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import SimulationError
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.identity import digest, protocol_of
from videopolicy.storage.provenance import RunIdentity, SimulatorFacts, differences
from videopolicy.storage.run_folder import RunFolder

HINT = (
    "Go on where the others ran, with the environment and renderer (MUJOCO_GL) that they had; or give this run a name "
    "of its own with name=OTHER, and `vpolicy compare` sets the two apart."
)


def run_identity(recipe: Recipe, stages: Sequence[str] = ()) -> RunIdentity:
    """The identity of a recipe's run.

    Args:
        recipe: The recipe.
        stages: Keys of all its stages: every weight that acts is in one of them. Empty before they are known.
    """
    return RunIdentity(
        stages=tuple(stages),
        acting=digest(recipe.policy.model_dump(mode="json")),
        protocol=protocol_of(recipe.benchmark),
        execute=recipe.eval.execute,
        batch_size=recipe.eval.batch_size,
        precision=recipe.eval.precision,
        compile=recipe.eval.compile,
        graphs=recipe.eval.graphs,
        seed=recipe.seed,
    )


def fingerprint(benchmark: BenchmarkComponent, simulator: SimulatorFacts) -> str:
    """Identifies the protocol of a benchmark's episodes.

    Args:
        benchmark: As a recipe configures it.
        simulator: What the simulator that runs them says of itself.
    """
    return digest({**protocol_of(benchmark), **simulator.in_protocol()})


def claim_simulator(folder: RunFolder, recipe: Recipe, simulator: SimulatorFacts) -> None:
    """Check that the episodes in a folder are of the same simulator, then record which one it is.

    Args:
        folder: Of the run.
        recipe: What is run.
        simulator: What the simulator says of itself here.

    Raises:
        SimulationError: Packages, renderer or conventions are others than those of the episodes that are there.
    """
    identity = folder.identity() or run_identity(recipe)
    if identity.simulator != simulator and EpisodeLog(folder.episodes_file).finished:
        ensure_same_simulator(simulator, identity.simulator or SimulatorFacts(), f"{folder.path} holds episodes")
    if identity.simulator != simulator:
        folder.write_identity(identity.model_copy(update={"simulator": simulator}))


def ensure_same_simulator(here: SimulatorFacts, there: SimulatorFacts, whose: str) -> None:
    """Check that episodes of two simulators can stand in one result.

    Args:
        here: The one that would go on.
        there: That of the other episodes.
        whose: Which these are, the beginning of the message.

    Raises:
        SimulationError: They cannot; the message says in what they differ.
    """
    found = differences(there.in_protocol(), here.in_protocol())
    if found:
        what = "; ".join(f"{name}: {theirs} there, {ours} here" for name, (theirs, ours) in found.items())
        raise SimulationError(f"{whose} of another simulator than this one: {what}.", HINT)
