"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import errno
from threading import Event

import pytest
import torch

from videopolicy.errors import StorageError
from videopolicy.training import saving
from videopolicy.training.saving import WriteBehind


@pytest.fixture
def slow(monkeypatch):
    """A disk that writes when it is let."""
    go, save = Event(), torch.save

    def later(*given, **named):
        assert go.wait(20)
        save(*given, **named)

    monkeypatch.setattr(saving.torch, "save", later)
    yield go
    go.set()


def test_what_is_written_is_what_was_there_and_nobody_waits(tmp_path, slow):
    path, writer = tmp_path / "checkpoint.ckpt", WriteBehind()
    path.write_bytes(b"the one before")
    weights, steps = torch.zeros(3), [1]
    writer.save_checkpoint({"weights": weights, "inside": {"steps": steps, "twice": [weights]}}, path)
    assert path.read_bytes() == b"the one before"
    weights += 1
    steps.append(2)
    slow.set()
    writer.teardown()
    found = writer.load_checkpoint(path, weights_only=True)
    assert found["weights"].tolist() == found["inside"]["twice"][0].tolist() == [0, 0, 0]
    assert found["inside"]["steps"] == [1]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_one_is_written_at_a_time_in_their_order(tmp_path, slow):
    path, writer = tmp_path / "checkpoint.ckpt", WriteBehind()
    slow.set()
    for step in range(5):
        writer.save_checkpoint({"step": step, "weights": torch.full((1000,), step)}, path)
    writer.teardown()
    assert writer.load_checkpoint(path)["step"] == 4


def test_a_full_disk_is_said_with_the_next_one(tmp_path, monkeypatch):
    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    path, writer = tmp_path / "checkpoint.ckpt", WriteBehind()
    monkeypatch.setattr(saving.torch, "save", full)
    writer.save_checkpoint({"step": 1}, path)
    with pytest.raises(StorageError, match="No space left") as error:
        writer.save_checkpoint({"step": 2}, path)
    assert "Free some space" in error.value.hint
    writer.teardown()
