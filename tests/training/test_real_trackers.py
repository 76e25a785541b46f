"""Curves of real runs, read back by the packages that kept them."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run

STAGES = "  - {name: first, target: policy, steps: 20, batch_size: 4}\n  - {name: policy, steps: 30, batch_size: 4}\n"


def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str) -> dict[str, dict[int, float]]:
    """Train two stages, and give the losses of each by step, as `train.csv` has them, by the names of their folders."""
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    text = linear("episodes: 0", tasks="red").replace("tracking: []", f"tracking: [{tracking}]")
    text = text.replace("  - {name: policy, steps: 4, batch_size: 4}\n", STAGES)
    (tmp_path / "tracked.yaml").write_text(text)
    folder = run(load_recipe(tmp_path / "tracked.yaml"), tmp_path / "runs", Reporter(quiet=True))
    found: dict[str, dict[int, float]] = {}
    with (folder / "train.csv").open() as file:
        for row in csv.DictReader(file):
            if row["name"] == "loss/action":
                found.setdefault(row["stage"], {})[int(row["step"])] = float(row["value"])
    assert list(found) == ["first", "policy"] and len(found["policy"]) == 3
    return found


def stages(tmp_path: Path) -> list[Path]:
    return sorted(path.parent for path in (tmp_path / "home").rglob("weights.safetensors"))


def test_wandb_offline_keeps_a_run_of_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained(tmp_path, monkeypatch, "wandb")
    assert wandb.run is None, "the last stage has closed its own"
    kept = [list(folder.glob("wandb/offline-run-*/*.wandb")) for folder in stages(tmp_path)]
    assert [len(files) for files in kept] == [1, 1]
    assert all(b"loss/action" in file.read_bytes() for (file,) in kept)
    wandb.teardown()


def test_trackio_keeps_the_losses_of_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio", reason="needs the extra `trackio`")
    storage = importlib.import_module("trackio.sqlite_storage")
    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    losses = trained(tmp_path, monkeypatch, "trackio")
    assert importlib.import_module("trackio.context_vars").current_run.get() is None, (
        "the last stage has closed its own"
    )
    kept = [
        {row["step"]: row["loss/action"] for row in storage.SQLiteStorage.get_logs("videopolicy", folder.name)}
        for folder in stages(tmp_path)
    ]
    assert sorted(map(len, kept)) == [2, 3]
    for expected in losses.values():
        assert any(one == pytest.approx(expected) for one in kept)
