"""Run folders as `vpolicy run` leaves them, with made-up episodes."""

from __future__ import annotations

import json
from pathlib import Path

from videopolicy.storage.identity import digest
from videopolicy.testing import toy_benchmark

PROTOCOL = {"simulator": "toy 1", "camera": {"height": 16}}
RECIPE = """\
name: {name}
seed: {seed}
plugins: [{plugin}]
benchmark: {{type: toy, task_names: [red, blue]}}
policy: {{type: modular, width: {width}}}
train:
- name: policy
  steps: 100
  devices: 1
eval: {{episodes: {episodes}}}
"""


def write_run(
    folder: Path,
    outcomes: dict[str, list[bool]],
    *,
    seed: int = 0,
    width: int = 1,
    protocol: dict | None = None,
    states: str = "",
    policy: str = "trained",
) -> Path:
    """Write a run folder.

    Args:
        folder: Its name is the run's.
        outcomes: Success of every episode, by task.
        seed, width: Runs that differ in their width are different methods.
        protocol: Of the benchmark.
        states: What makes initial states differ from those of other runs.
        policy: Whose episodes they are.
    """
    protocol = PROTOCOL if protocol is None else protocol
    folder.mkdir(parents=True, exist_ok=True)
    count = max(map(len, outcomes.values()))
    text = RECIPE.format(name=folder.name, seed=seed, width=width, episodes=count, plugin=toy_benchmark.__file__)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    (folder / "identity.json").write_text(json.dumps({"protocol": protocol}), encoding="utf-8")
    stage = {"name": "policy", "steps": 100, "seconds": 50.0, "processor_seconds": 90.0, "parameters": 1234}
    provenance = {
        "name": folder.name,
        "machine": {"processor": "a processor", "accelerator": None},
        "stages": [stage],
        "evaluation": {"batch_size": 8, "seconds_per_chunk": {policy: {"median": 0.25, "p95": 0.5}}},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    with (folder / "episodes.jsonl").open("a", encoding="utf-8") as log:
        for task, successes in outcomes.items():
            for episode, success in enumerate(successes):
                record = {
                    "policy": policy,
                    "task": task,
                    "episode": episode,
                    "success": success,
                    "score": float(success),
                    "steps": 10,
                    "seconds": 1.0,
                    "initial_state": f"{states}{task}{episode}",
                    "protocol": digest(protocol),
                }
                log.write(json.dumps(record) + "\n")
    return folder
