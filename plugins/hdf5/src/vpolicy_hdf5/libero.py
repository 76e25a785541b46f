"""What LIBERO's own files say of themselves, so that its tools, robomimic's and other readers take ours.

Names, types and conventions are those of its ``scripts/create_dataset.py``. One thing is not: there an observation is
the one after the action of its index, and here it is the one before, as policies see it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from videopolicy import DataError, Spaces
from vpolicy_hdf5.layout import LIBERO

BOTTOM_UP = "opengl"
"""robosuite's name, in ``macros_image_convention``, for images whose first row is the lowest."""
UPRIGHT = "opencv"
_ROBOSUITE = 1  # robomimic's number for this kind of environment


def is_libero(facts: Mapping[str, Any]) -> bool:
    """Whether the facts of an episode are those of LIBERO."""
    return LIBERO in facts


def attributes(facts: Mapping[str, Any], sentence: str, spaces: Spaces, episodes: int) -> dict[str, Any]:
    """Attributes of ``data`` besides ``total``.

    Args:
        facts: Of an episode; ``env_name`` and ``problem_name`` are the name of LIBERO's class, ``env_kwargs`` is JSON.
        sentence: Of the task.
        spaces: What was recorded.
        episodes: Their number.
    """
    bddl = str(facts[LIBERO])
    problem = str(facts.get("problem_name", facts.get("env_name", "")))
    name = str(facts.get("env_name", problem))
    kwargs = {
        "robots": ["Panda"],
        "bddl_file_name": bddl,
        "camera_names": [camera.name for camera in spaces.cameras],
        "camera_heights": [camera.height for camera in spaces.cameras],
        "camera_widths": [camera.width for camera in spaces.cameras],
        "control_freq": spaces.actions.rate,
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "use_camera_obs": True,
        "ignore_done": True,
        **_mapping(str(facts.get("env_kwargs", "{}"))),
    }
    problem_info = {"problem_name": problem, "domain_name": "robosuite", "language_instruction": sentence}
    arguments = {"type": _ROBOSUITE, "env_name": name, "problem_name": problem, "bddl_file": bddl, "env_kwargs": kwargs}
    return {
        LIBERO: bddl,
        "bddl_file_content": str(facts.get("bddl_file_content", "")),
        "env_name": name,
        "problem_info": json.dumps(problem_info),
        "env_args": json.dumps(arguments),
        "num_demos": episodes,
        "macros_image_convention": BOTTOM_UP,
    }


def _mapping(written: str) -> dict[str, Any]:
    try:
        found = json.loads(written)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"The fact 'env_kwargs' is {written[:60]!r}, no JSON mapping.", "Correct the benchmark.")
    return found
