"""LIBERO's suites, their tasks and sentences, without the simulator."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml

from videopolicy import did_you_mean
from videopolicy.parts.catalogue import chosen_tasks

LIBERO = ("libero_10", "libero_spatial", "libero_object", "libero_goal", "libero_90")
"""LIBERO's own (Liu et al., 2023)."""
CHANGES = ("lan", "object", "swap", "task")
"""What the suites of LIBERO-PRO change: the words, an object's looks, places, the goal."""

_SCENE = re.compile(r"^[A-Z_]+_SCENE\d+_")

Sentences = Literal["libero", "bddl", "file-name"]


@lru_cache(maxsize=1)
def suites() -> dict[str, dict[str, str]]:
    """Of every suite and task the sentence in its BDDL file."""
    return yaml.safe_load((Path(__file__).parent / "suites.yaml").read_text(encoding="utf-8"))


def known_suite(name: str) -> str:
    """The same name.

    Raises:
        ValueError: There is no such suite, with the nearest name.
    """
    if name not in suites():
        raise ValueError(f"There is no suite '{name}'.{did_you_mean(name, suites())} Known: {', '.join(suites())}.")
    return name


def original(suite: str) -> str:
    """The suite of LIBERO that one of LIBERO-PRO changes; one of LIBERO is its own."""
    return suite if suite in LIBERO else suite.rpartition("_")[0]


def tasks_named(suite: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks of a suite meant by their names or ``all``."""
    return chosen_tasks(names, {"": tuple(suites()[suite])}, "LIBERO-10" if suite == "libero_10" else suite)


def sentence(suite: str, task: str, kind: Sentences) -> str:
    """What a policy is given for a task.

    Args:
        suite: The suite.
        task: Name of the task's BDDL file.
        kind: ``libero``: what LIBERO's benchmark gives, the words of the file's name without the scene, or what the
            file says where a suite of LIBERO-PRO changed that. ``bddl``: what the file says, as LIBERO's demonstrations
            have it. ``file-name``: the words of the file's name, scene included.
    """
    if kind == "file-name":
        return task.replace("_", " ")
    said = suites()[suite][task]
    if kind == "bddl" or said != suites()[original(suite)][task]:
        return said
    return _SCENE.sub("", task).replace("_", " ")
