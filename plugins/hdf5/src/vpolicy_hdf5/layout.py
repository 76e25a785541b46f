"""Names in the files. What robomimic defines is kept as it is; the rest is ours and optional for a reader.

``data`` attributes: ``env_args`` (JSON with ``env_name``), ``total`` (steps), and ours: ``task``, ``spaces`` (JSON),
``provenance`` (JSON: whose actions these are).
``data/demo_k`` attributes: ``num_samples``, ``ep_meta`` (JSON with ``lang``, RoboCasa's convention), ``model_file`` and
``init_state`` where the simulator gives them, and ours: ``digest`` (of the content), ``further`` (JSON: keys that it
covers besides actions, state and images), ``facts`` (JSON, of the simulator), ``initial_state`` (hash), ``attempt``,
``success``.

Files of LIBERO are known by ``bddl_file_name`` of ``data``. Collected ones have that benchmark's own names and
attributes besides (`vpolicy_hdf5.libero`).
"""

from __future__ import annotations

from urllib.parse import quote

MARKER = "dataset.json"
STATE_KEY = "state"
IMAGE_ENDINGS = ("_image", "_rgb")
LIBERO = "bddl_file_name"
"""Attribute of ``data``, and fact of an episode, that LIBERO alone has."""


def image_key(camera: str, libero: bool = False) -> str:
    """The key of a camera's images; LIBERO's files name neither the robot nor the simulator's sensor."""
    return f"{camera.removeprefix('robot0_')}{IMAGE_ENDINGS[1]}" if libero else f"{camera}{IMAGE_ENDINGS[0]}"


def task_file(task: str, libero: bool = False) -> str:
    """Name of the file that holds a task's episodes: any name of a task will do."""
    return f"{quote(task, safe=' ')}{'_demo' if libero else ''}.hdf5"
