"""What a robot benchmark declares: its tasks, how its simulator is started, and numbers from papers.

The benchmark itself is a `videopolicy.components.kinds.BenchmarkComponent`. No simulator is imported in the core:
it runs in a worker process in an environment of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Task(BaseModel):
    """One task.

    Args:
        name: Its name in the benchmark.
        instruction: The sentence that the policy is given.
        max_steps: Environment steps after which an episode has failed.
        tier: A group by which results are summed up, such as a difficulty; empty for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    instruction: str
    max_steps: int
    tier: str = ""


class Checkout(BaseModel):
    """A repository that a simulator runs from as it is, because no package has all that is in it.

    The worker finds its folder in the environment variable ``VPOLICY_<ENVIRONMENT>_SOURCE``, by which a user may name a
    checkout that is there already.

    Args:
        url: Where it is cloned from.
        commit: The commit that is used, all forty digits.
        digests: What its folders hold at that commit, by folder, as `videopolicy.simulators.checkouts.digest` has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    commit: str
    digests: dict[str, str]


class AssetPack(BaseModel):
    """A zip archive of assets.

    Args:
        name: What messages call it.
        url: Where it is downloaded from.
        folder: Where it is unpacked, relative to the assets' folder.
        sha256: Of the archive, where its publisher says it; empty for unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    url: str
    folder: str = "."
    sha256: str = ""


class Assets(BaseModel):
    """Files that a simulator needs besides its packages: meshes, textures, stored scenes.

    The worker finds their folder in the environment variable ``VPOLICY_<ENVIRONMENT>_ASSETS``, by which a user may name
    one that is there already. Archives are downloaded on request alone, by ``vpolicy env assets``; what a script writes
    without any is made on first use.

    Args:
        name: Which ones these are, such as ``official``.
        script: Python file that writes what is in no archive. It is run by the simulator's interpreter before archives
            are unpacked, with the folder as its argument and the variables of a worker.
        arguments: Further arguments of the script.
        packs: Archives.
        size: How large these are together, for messages, such as ``about 5 GB``.
        stand_in: What can take their place without a download. Results on it are other results: a benchmark offers it
            as an option of its own, which is part of its protocol.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    script: Path | None = None
    arguments: tuple[str, ...] = ()
    packs: tuple[AssetPack, ...] = ()
    size: str = ""
    stand_in: Assets | None = None


class WorkerSpec(BaseModel):
    """How to start a simulator worker.

    Args:
        environment: Name of the environment, also the NAME in ``VPOLICY_<NAME>_PYTHON``.
        requirements: File from which uv makes the environment; None: the interpreter that runs the core.
        python: Python versions that those requirements exist for, such as ``>=3.11,<3.14``; empty for any.
        checkout: A repository that it needs besides.
        assets: Files that it needs besides.
        module: Python file that defines the simulator.
        simulator: Name of the class in it, a ``vpolicy_worker.Simulator``.
        config: Keyword arguments of that class; plain data.
        variables: Environment variables of the worker. ``PYTHONPATH`` and ``LD_LIBRARY_PATH`` of the shell do not reach
            it, other variables do.
        timeout: Seconds that one call may take before the worker counts as hung.
        start_timeout: Seconds that starting may take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    environment: str
    requirements: Path | None = None
    python: str = ""
    checkout: Checkout | None = None
    assets: Assets | None = None
    module: Path
    simulator: str
    config: dict[str, Any] = {}
    variables: dict[str, str] = {}
    timeout: float = 60.0
    start_timeout: float = 120.0


class DemonstrationRequest(BaseModel):
    """Demonstrations that a benchmark's own experts are asked for.

    Args:
        episodes_per_task: Successful episodes to keep of every task.
        action_noise: Standard deviation of Gaussian noise added to the executed action, in units of the
            action bounds; the dataset keeps the expert's own action.
        first_attempt: Index of the first initial state tried; attempts go upwards from here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    episodes_per_task: int = 50
    action_noise: float = 0.0
    first_attempt: int = 0


class PublishedNumber(BaseModel):
    """A number from a paper, never one that was measured here.

    Args:
        method: As the paper calls it.
        metric: Such as ``success``.
        group: Task, tier, or ``mean``.
        value: The number.
        source: Paper and table.
        episodes: Evaluation episodes per task, where the paper or its code says so.
        note: Where code and paper disagree, or what makes the number hard to compare.
        kind: ``main`` for a comparison of methods, ``ablation`` for variants of one method or changed conditions,
            ``elsewhere`` for what no run of this benchmark measures: real robots, other data, speed on their machines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    metric: str
    group: str
    value: float
    source: str
    episodes: int | None = None
    note: str = ""
    kind: Literal["main", "ablation", "elsewhere"] = "main"
