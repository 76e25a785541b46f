"""Random actions look at nothing: they are executed for many steps between two pictures, and are the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.evaluation import evaluate
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.store import Store

RECIPE = linear("episodes: 4, execute: 2, workers: 2, batch_size: 2, baselines: [random]")


def test_steps_executed_at_once_change_no_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
    send, found, asked = WorkerPool.send, [], []
    for steps in (1, evaluate.RANDOM_STEPS):
        sent: list[str] = []

        def counted(pool: WorkerPool, index: int, method: str, sent: list[str] = sent, **arguments: object) -> None:
            sent.append(method)
            send(pool, index, method, **arguments)

        with monkeypatch.context() as patch:
            patch.setattr(evaluate, "RANDOM_STEPS", steps)
            patch.setattr(WorkerPool, "send", counted)
            folder = run(
                load_recipe(tmp_path / "small.yaml", [f"name=steps-{steps}"]),
                tmp_path / "runs",
                Reporter(quiet=True),
                Store(tmp_path / "home"),
            )
        # The toy scores where it is at the end of a chunk, the largest of which counts.
        records = [one.model_dump(exclude={"seconds", "score"}) for one in EpisodeLog(folder / "episodes.jsonl").read()]
        found.append(sorted(records, key=lambda one: (one["policy"], one["task"], one["episode"])))
        asked.append(sent.count("step"))
    assert found[0] == found[1] and {one["policy"] for one in found[0]} == {"trained", "random"}
    random = [one for one in found[0] if one["policy"] == "random"]
    saved = sum(-(-one["steps"] // 2) - 1 for one in random)
    assert asked[0] - asked[1] == saved > len(random)
