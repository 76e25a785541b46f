"""``vpolicy show --rerun``: episodes as Rerun's own reader finds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import vpolicy

from videopolicy import StorageError, VpolicyError
from videopolicy.console.progress import Reporter
from videopolicy.report.rollouts import write_rollouts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.testing.toy_benchmark import ToyBenchmark

TOY = ToyBenchmark(task_names=("red", "blue"))


def columns(path: Path) -> dict[str, list[Any]]:
    """What is logged over time, by entity and component, in the order of the steps."""
    from rerun.chunk import RrdReader

    found: dict[str, list[tuple[int, Any]]] = {}
    for chunk in RrdReader(path).stream():
        if chunk.is_static or "step" not in chunk.timeline_names:
            continue
        batch = chunk.to_record_batch()
        steps = batch.column("step").to_pylist()
        for name in batch.schema.names:
            if ":" in name:
                entity = f"{chunk.entity_path} {name.rpartition(':')[2]}"
                found.setdefault(entity, []).extend(zip(steps, batch.column(name).to_pylist(), strict=True))
    return {name: [value for _, value in sorted(rows, key=lambda row: row[0])] for name, rows in found.items()}


def test_a_recording_has_what_the_episodes_had(uninterrupted: Any, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra `rerun`")
    path, home = tmp_path / "rollouts.rrd", str(uninterrupted.folder / "home")
    arguments = ("show", str(uninterrupted.run_folder), "--trust", "--rerun", str(path))
    done = vpolicy(tmp_path, *arguments, VPOLICY_HOME=home)
    assert done.returncode == 0, done.stderr
    found = columns(path)
    shown = 0
    for record in uninterrupted.records():
        place = f"/{record['task']}/{'success' if record['success'] else 'failure'}"
        earlier = [
            one
            for one in uninterrupted.records()
            if (one["policy"], one["task"], one["success"]) == ("trained", record["task"], record["success"])
            and one["episode"] < record["episode"]
        ]
        if record["policy"] != "trained" or earlier:
            continue
        name = f"{record['task']}-{record['episode']}.npy"
        actions = np.load(uninterrupted.run_folder / "trajectories" / "trained" / name)
        np.testing.assert_allclose(np.array(found[f"{place}/action scalars"]), actions, atol=1e-6)
        assert len(found[f"{place}/camera/top blob"]) == len(actions) + 1 == len(found[f"{place}/state scalars"])
        assert found[f"{place}/instruction text"] == [[record["instruction"]]]
        shown += 1
    assert shown >= 2 and f"{shown} episodes" in done.stdout


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(VpolicyError, match="not installed") as caught:
        write_rollouts(RunFolder(tmp_path), TOY, tmp_path / "a.rrd", Reporter(quiet=True))
    assert "videopolicy[rerun]" in caught.value.hint
    monkeypatch.setitem(sys.modules, "rerun", type(sys)("rerun"))
    with pytest.raises(StorageError, match="no episode of the trained policy"):
        write_rollouts(RunFolder(tmp_path), TOY, tmp_path / "a.rrd", Reporter(quiet=True))
    assert not (tmp_path / "a.rrd").exists()
