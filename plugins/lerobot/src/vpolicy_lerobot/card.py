"""The page that says to people where the data come from; on the Hub it is the dataset's card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = """---
tags: [LeRobot]
task_categories: [robotics]
configs:
- config_name: default
  data_files: data/*/*.parquet
---

"""


def card(info: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Markdown.

    Args:
        info: What ``meta/info.json`` says.
        provenance: Where the data come from, by name.
    """
    splits = ", ".join(f"{name}: episodes {span}" for name, span in info["splits"].items())
    lines = [
        f"{info['total_episodes']} episodes, {info['total_frames']} steps at {info['fps']} a second, "
        f"{info['total_tasks']} tasks, in LeRobot's format {info['codebase_version']}. Splits: {splits}.",
        "",
        "Pictures were encoded again (H.264), with loss. What cameras, state and actions mean stands in "
        "`meta/videopolicy.json`.",
        "",
    ]
    if expert := provenance.get("expert"):
        lines += [f"**The actions are those of a {expert} expert, not of a human.**", ""]
    lines += ["Where they come from:", ""]
    told = {name.replace("_", " "): str(value).replace("\n", "; ") for name, value in provenance.items()}
    lines += [f"- {name}: {value}" for name, value in told.items() if name != "human"]
    return _HEAD + "\n".join(lines) + "\n"
