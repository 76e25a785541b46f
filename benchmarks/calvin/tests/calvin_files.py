"""Recordings in CALVIN's layout, small and of random content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SEGMENTS = [
    ("open_drawer", "pull the handle of the drawer", (3, 12)),
    ("turn_on_led", "press the button", (10, 16)),  # shares frames with the one before
    ("open_drawer", "open the drawer", (30, 34)),
]
FRAMES = sorted({frame for _, _, (first, last) in SEGMENTS for frame in range(first, last + 1)})


def frame(number: int) -> dict[str, Any]:
    """What the recorder saves of one frame: numpy's double precision, images, and much that nobody reads here."""
    random = np.random.default_rng(number)
    return {
        "actions": random.uniform(-1, 1, 7),
        "rel_actions": np.append(random.uniform(-1, 1, 6), random.choice([-1.0, 1.0])),
        "robot_obs": random.uniform(-1, 1, 15),
        "scene_obs": random.uniform(-1, 1, 24),
        "rgb_static": random.integers(0, 256, (20, 20, 3), np.uint8),
        "rgb_gripper": random.integers(0, 256, (8, 8, 3), np.uint8),
        "rgb_tactile": random.integers(0, 256, (16, 12, 6), np.uint8),
        "depth_static": random.uniform(0, 4, (20, 20)).astype(np.float32),
    }


def write_annotations(folder: Path, segments: list[tuple[str, str, tuple[int, int]]] = SEGMENTS) -> Path:
    """As the published tool for automatic annotations writes them."""
    content = {
        "language": {
            "ann": [sentence for _, sentence, _ in segments],
            "task": [task for task, _, _ in segments],
            "emb": np.zeros((len(segments), 1, 384), np.float32),
        },
        "info": {"episodes": [], "indx": [span for _, _, span in segments]},
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "auto_lang_ann.npy", content)  # type: ignore[arg-type]
    return folder / "auto_lang_ann.npy"


def write_split(folder: Path, segments: list[tuple[str, str, tuple[int, int]]] = SEGMENTS) -> Path:
    """Frames and annotations of one split; frames between the segments are there too."""
    write_annotations(folder / "lang_annotations", segments)
    for number in range(max(last for _, _, (_, last) in segments) + 1):
        np.savez_compressed(folder / f"episode_{number:07d}.npz", **frame(number))
    np.save(folder / "ep_start_end_ids.npy", np.array([(0, 40)]))
    return folder
