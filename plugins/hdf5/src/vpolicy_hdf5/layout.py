"""Names in the files. What robomimic defines is kept as it is; the rest is ours and optional for a reader.

``data`` attributes: ``env_args`` (JSON with ``env_name``), ``total`` (steps), and ours: ``task``, ``spaces`` (JSON).
``data/demo_k`` attributes: ``num_samples``, ``ep_meta`` (JSON with ``lang``, RoboCasa's convention), and ours:
``digest`` (of the content), ``initial_state`` (hash), ``attempt``, ``success``.
"""

from __future__ import annotations

from urllib.parse import quote

MARKER = "dataset.json"
PARTS = "parts"
STATE_KEY = "state"
IMAGE_ENDINGS = ("_image", "_rgb")


def image_key(camera: str) -> str:
    return f"{camera}{IMAGE_ENDINGS[0]}"


def file_name(task: str) -> str:
    """A file name for any task name, reversible and without path separators."""
    return quote(task, safe=" ")
