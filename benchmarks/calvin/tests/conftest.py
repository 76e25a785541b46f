"""Recordings in CALVIN's layout, made up."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

for name in ("calvin_files", "generate_chains"):
    _SPEC = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert _SPEC is not None and _SPEC.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(sys.modules[name])
files = sys.modules["calvin_files"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Both splits; nobody may change them."""
    root = tmp_path_factory.mktemp("calvin") / "task_ABC_D"
    files.write_split(root / "training")
    files.write_split(root / "validation", [("close_drawer", "push the drawer shut", (1, 5))])
    return root


@pytest.fixture
def copied(recorded: Path, tmp_path: Path) -> Path:
    return shutil.copytree(recorded, tmp_path / "copy")
