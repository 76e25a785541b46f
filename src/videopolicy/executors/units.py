"""What is sent to another machine, and how it is carried out there."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from videopolicy.console.progress import Reporter
from videopolicy.console.terminal import Terminal
from videopolicy.errors import EvaluationStoppedError, StorageError, VpolicyError
from videopolicy.evaluation.usage import Usage
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.storage.files import storage_errors
from videopolicy.storage.identity import code_behind, digest
from videopolicy.storage.provenance import SimulatorFacts, StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.storage.temporary import temporary_folder

# What a launcher on the node has set for its own processes: a unit is not one of them.
_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS")
# What the user has set for the run: places, the number of threads (rounding depends on it), the way to render.
_OF_THE_RUN = ("OMP_NUM_THREADS", "MUJOCO_GL", "HF_HOME")


@dataclass(frozen=True)
class Workplace:
    """Where the driver works, which must be there on every node.

    Args:
        folder: Its current folder; paths in recipes are relative to it.
        store: Folder of artifacts.
        variables: Environment variables that a run depends on.
    """

    folder: str
    store: str
    variables: dict[str, str] = field(hash=False)

    @classmethod
    def here(cls, store: Store) -> Workplace:
        """The workplace of this process."""
        wanted = {name: value for name, value in os.environ.items() if name.startswith("VPOLICY_")}
        wanted |= {name: os.environ[name] for name in _OF_THE_RUN if name in os.environ}
        root = str(store.root.absolute())
        return cls(str(Path.cwd()), root, {**wanted, "VPOLICY_HOME": root})

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Make this process work there.

        Raises:
            StorageError: A folder is not on this machine.
        """
        missing = [path for path in (self.folder, self.store) if not Path(path).is_dir()]
        if missing:
            raise StorageError(
                f"The node {socket.gethostname()} has no folder {' and no folder '.join(missing)}.",
                "Run from a folder that all nodes share, and set VPOLICY_HOME to another one that they share.",
            )
        before, here = dict(os.environ), Path.cwd()
        for name in _OF_LAUNCHERS:
            os.environ.pop(name, None)
        os.environ.update(self.variables)
        os.chdir(self.folder)
        try:
            if "OMP_NUM_THREADS" in self.variables:  # torch may have been imported before the variable was set
                import torch

                torch.set_num_threads(int(self.variables["OMP_NUM_THREADS"]))
            yield
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)


@dataclass(frozen=True)
class Unit(ABC):
    """A piece of work that any machine can do, as often as it has to be done.

    Args:
        workplace: Where.
        recipe: The completed recipe as YAML.
    """

    workplace: Workplace
    recipe: str

    @property
    @abstractmethod
    def id(self) -> str:
        """Identifies the result: units with the same id return the same."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What the unit does, for messages."""

    @property
    def devices(self) -> int:
        """Accelerators that it works on, where it works on accelerators."""
        return 1

    @abstractmethod
    def run(self, reporter: Reporter) -> Any:
        """Do it, inside the workplace."""

    def load_recipe(self) -> Recipe:
        """The recipe."""
        with temporary_folder() as folder:
            path = folder / "recipe.yaml"
            path.write_text(self.recipe, encoding="utf-8")
            return load_recipe(path)


def recipe_text(recipe: Recipe) -> str:
    """A completed recipe as a unit carries it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


@dataclass(frozen=True)
class EvaluationUnit(Unit):
    """Episodes of one policy on one task.

    Args:
        run_id: Identifies what is evaluated: policy, protocol, seed.
        stages: Keys of the trained stages, in the recipe's order.
        policy: ``trained`` or a baseline.
        task: Name of the task.
        first, last: The range of episodes, ``last`` excluded.
        episodes: Those of them that are still missing.
        code: Identifies the code that the driver runs them with; empty where any will do.
        simulator: That of the episodes which the run has already; None where it has none.
    """

    run_id: str
    stages: tuple[str, ...]
    policy: str
    task: str
    first: int
    last: int
    episodes: tuple[int, ...]
    code: str = ""
    simulator: SimulatorFacts | None = field(default=None, hash=False)

    @property
    def id(self) -> str:
        return digest([self.run_id, self.policy, self.task, self.first, self.last])

    @property
    def title(self) -> str:
        return f"evaluate {self.policy} on {self.task}, episodes {self.first} to {self.last - 1}"

    def run(self, reporter: Reporter) -> Shard:
        """Run the missing episodes.

        Raises:
            StorageError: The trained stages are not on this node, or it has other code than the driver.
            SimulationError: The simulator cannot start here, or is not the one of the episodes that are there.
            EvaluationStoppedError: It fails with every episode.
        """
        from videopolicy.evaluation.evaluate import make_rollout, simulators
        from videopolicy.evaluation.identity import ensure_same_simulator
        from videopolicy.outcomes.records import EpisodeLog
        from videopolicy.simulators.environments import interpreter
        from videopolicy.training.inputs import ensure_inputs
        from videopolicy.training.planning import PlannedStage
        from videopolicy.training.session import Session

        recipe, store = self.load_recipe(), Store(Path(self.workplace.store))
        stages = zip(recipe.train, self.stages, strict=True)
        planned = [PlannedStage(stage, key, store.root / "stages" / key) for stage, key in stages]
        for one in planned:
            if one.facts is None:
                raise StorageError(
                    f"The node {socket.gethostname()} has no trained stage '{one.stage.name}' in {one.folder}.",
                    "Set VPOLICY_HOME to a folder that all nodes share.",
                )
        if self.code and self.code != code_behind(recipe.components(), recipe.registry):
            raise StorageError(
                f"The node {socket.gethostname()} has other code than the driver.", "Install the same code everywhere."
            )
        ensure_inputs(recipe)
        python = interpreter(recipe.benchmark.launch(), root=store.root, say=reporter.line)
        stopped: EvaluationStoppedError | None = None
        with temporary_folder() as path:
            folder = RunFolder(path)
            with simulators(recipe, python, folder.logs) as pool:
                simulator = pool.simulator
                if self.simulator is not None:
                    where = f"The node {socket.gethostname()} would go on with episodes"
                    ensure_same_simulator(simulator, self.simulator, where)
                rollout = make_rollout(self.policy, Session.here(recipe, store, reporter), planned, pool, folder)
                try:
                    rollout.run(recipe.benchmark.tasks(), {(self.task, episode) for episode in self.episodes})
                except EvaluationStoppedError as error:
                    if not rollout.log.finished:
                        raise
                    stopped = error
            kept = {path.name: path.read_bytes() for path in folder.trajectories.glob("*/*.npy")}
            logs = "".join(
                path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.logs.glob("*.log"))
            )
            records = [record.model_dump() for record in EpisodeLog(folder.episodes_file).read()]
        return Shard(records, kept, rollout.chunk_seconds, logs, simulator, rollout.usage, stopped)


@dataclass(frozen=True)
class Shard:
    """What the episodes of a unit have come to.

    Args:
        records: Fields of `videopolicy.outcomes.records.EpisodeRecord`.
        trajectories: Files with the executed actions, by name.
        chunk_seconds: Wall time of every forward pass.
        logs: What the simulators have printed.
        simulator: What they said of themselves.
        usage: What the workers' time went into.
        stopped: Why the other episodes were not tried; None where all were.
    """

    records: list[dict[str, Any]]
    trajectories: dict[str, bytes]
    chunk_seconds: list[float]
    logs: str
    simulator: SimulatorFacts
    usage: Usage
    stopped: EvaluationStoppedError | None = None


@dataclass(frozen=True)
class StageUnit(Unit):
    """One stage of training.

    Args:
        name: Of the stage.
        key: What the driver identifies its result by.
        processes: Number of processes that train it, one per device.
    """

    name: str
    key: str
    processes: int = 1

    @property
    def id(self) -> str:
        return self.key

    @property
    def title(self) -> str:
        return f"train {self.name} ({self.key})"

    @property
    def devices(self) -> int:
        return self.processes

    def run(self, reporter: Reporter) -> StageFacts:
        """Train it where it is not trained yet.

        Returns:
            The facts that are recorded of the stage.

        Raises:
            StorageError: The node has other data, code or earlier stages than the driver.
        """
        if self.processes > 1:
            self._in_a_process_of_its_own(reporter)
        from videopolicy.data.own import open_own
        from videopolicy.data.preparation import open_data
        from videopolicy.training.inputs import ensure_inputs
        from videopolicy.training.planning import plan
        from videopolicy.training.session import Session
        from videopolicy.training.stages import train

        recipe, store = self.load_recipe(), Store(Path(self.workplace.store))
        ensure_inputs(recipe)
        dataset = open_data(recipe, store, reporter) if recipe.data else None
        there = recipe.data is None or dataset is not None
        own = open_own(recipe, dataset, store, reporter) if there else {}
        planned = {one.stage.name: one for one in plan(recipe, dataset, store, own)}[self.name] if there else None
        if planned is None or planned.key != self.key:
            raise StorageError(
                f"The node {socket.gethostname()} has other data or other code than the driver.",
                "Install the same code everywhere, and set VPOLICY_HOME to a folder that all nodes share.",
            )
        return train(Session.here(recipe, store, reporter), planned, dataset)

    def _in_a_process_of_its_own(self, reporter: Reporter) -> None:
        """Lightning starts the other processes by repeating this one's command, which must do nothing but train."""
        with temporary_folder() as folder:
            path = folder / "stage.yaml"
            fields = {"workplace": vars(self.workplace), "recipe": self.recipe, "name": self.name, "key": self.key}
            path.write_text(yaml.safe_dump(fields), encoding="utf-8")
            command = [sys.executable, "-m", "videopolicy.executors.stage_process", str(path)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
            )
        for line in done.stdout.splitlines():
            reporter.line(line)
        if done.returncode:
            lines = "\n".join(f"  | {line}" for line in done.stdout.strip().splitlines()[-12:])
            raise VpolicyError(
                f"The {self.processes} processes of stage '{self.name}' ended with status {done.returncode}:\n{lines}",
                "Correct what the last lines say and run the same command again; it goes on from the last checkpoint.",
            )


@dataclass(frozen=True)
class Outcome:
    """How a unit ended.

    Args:
        unit: The unit.
        value: What it returned.
        error: Why it could not be finished.
        output: What it has said on its node.
    """

    unit: Unit
    value: Any = None
    error: VpolicyError | None = None
    output: str = field(default="", repr=False)


def perform(unit: Unit, reporter: Reporter | None = None) -> Outcome:
    """Carry out a unit on the machine where it has arrived.

    Args:
        unit: The unit.
        reporter: Shows progress; None collects what it would show.

    Returns:
        Its result, or why there is none: an error is a result too, which no engine needs to try again.
    """
    said = io.StringIO()
    reporter = reporter or Reporter(console=Terminal(file=said, width=120))
    reporter.line(f"{unit.title} on {socket.gethostname()}")
    try:
        with unit.workplace.entered():
            outcome = Outcome(unit, unit.run(reporter))
    except VpolicyError as error:
        outcome = Outcome(unit, error=error)
    except Exception as error:  # whatever a plugin raises there must be reported here
        said.write(traceback.format_exc())
        hint = "Its whole output is in the folder of logs."
        outcome = Outcome(unit, error=VpolicyError(f"{type(error).__name__}: {error}", hint))
    return replace(outcome, output=said.getvalue())


def write_output(outcome: Outcome, folder: Path) -> None:
    """Keep what a unit has said, and its simulators."""
    text = outcome.output + (outcome.value.logs if isinstance(outcome.value, Shard) else "")
    path = folder / f"{outcome.unit.id}.log"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
