"""Processes that load data: no room in shared memory, errors of the data, and their own death."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from videopolicy import Batch, Learner, Observation, VpolicyError, Window
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.errors import DataError
from videopolicy.recipes.recipe import Normalization, Stage
from videopolicy.training import lightning_loop, loading
from videopolicy.training.lightning_loop import Trained
from videopolicy.training.normalization import Normalizer


class Brightness(Learner):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)

    @property
    def window(self) -> Window:
        return Window(horizon=1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        seen = batch.observation.images["front"].float().mean((1, 3, 4)) / 255
        return {"action": (self.layer(seen) - batch.actions[:, 0]).square().mean()}


class Pictures:
    """Windows of 12 KiB; what happens at one of them is said by ``at``."""

    def __init__(self, at=lambda: None) -> None:
        self.at = at

    def __len__(self) -> int:
        return 64

    def batch(self, indices) -> Batch:
        if 40 in indices:
            self.at()
        draw = torch.Generator().manual_seed(int(sum(indices)))
        images = torch.randint(0, 256, (len(indices), 1, 3, 64, 64), dtype=torch.uint8, generator=draw)
        state = torch.randn(len(indices), 1, 3, generator=draw)
        mask = torch.ones(len(indices), 1, dtype=torch.bool)
        actions = torch.randn(len(indices), 1, 2, generator=draw)
        return Batch(Observation({"front": images}, ["look"] * len(indices), state), actions=actions, action_mask=mask)


def train(folder: Path, windows: Pictures, workers: int) -> tuple[Brightness, Trained, str]:
    unit = FieldStatistics([-1.0] * 2, [1.0] * 2, [0.0] * 2, [1.0] * 2)
    state = FieldStatistics([-1.0] * 3, [1.0] * 3, [0.0] * 3, [1.0] * 3)
    said = io.StringIO()
    stage = Stage(name="look", steps=12, batch_size=8, data_workers=workers)
    learner = Brightness()
    folder.mkdir(exist_ok=True)
    trained = lightning_loop.train_stage(
        learner,
        Normalizer(Normalization(), Statistics(unit, state)),
        windows,
        stage,
        0,
        folder,
        Reporter(console=Console(file=said, width=400)),
    )
    return learner, trained, said.getvalue()


def test_batches_without_room_in_shared_memory_come_through_pipes(tmp_path, monkeypatch):
    shared = Tensor.share_memory_

    def no_room(tensor: Tensor) -> Tensor:
        if tensor.nbytes > 4096:
            raise RuntimeError("unable to write to file </torch_1_2_0>: No space left on device (28)")
        return shared(tensor)

    whole, usual, quiet = train(tmp_path / "whole", Pictures(), 2)
    monkeypatch.setattr(Tensor, "share_memory_", no_room)
    learner, trained, said = train(tmp_path / "pipes", Pictures(), 2)
    assert torch.equal(whole.layer.weight, learner.layer.weight)
    assert said.count("do not fit into shared memory (/dev/shm has") == 1 and "shared memory" not in quiet
    assert len(trained.remarks) == 1 and usual.remarks == ()


TINY = """
import sys
sys.path.insert(0, sys.argv[1])
import test_data_workers as tests
from pathlib import Path
learner, trained, said = tests.train(Path(sys.argv[2]), tests.Pictures(), 2)
print(said)
"""


def can_mount() -> bool:
    unshare = shutil.which("unshare")
    return os.getuid() == 0 and unshare and subprocess.run([unshare, "-m", "true"], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not can_mount(), reason="needs root and name spaces of mounts")
def test_a_machine_with_hardly_any_shared_memory(tmp_path):
    """64 KiB, in which one of three batches in flight has room."""
    mounted = 'mount -t tmpfs -o size=128k tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mounted, "sh", sys.executable, "-c", TINY, Path(__file__).parent, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("/dev/shm has 0 MiB") == 1 and "Traceback" not in done.stderr


def wrong() -> None:
    raise DataError("episode 40 is cut.", "Copy it again.")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_data_arrives_as_it_was_raised(tmp_path, workers):
    with pytest.raises(VpolicyError) as error:
        train(tmp_path, Pictures(wrong), workers)
    assert (error.value.message, error.value.hint) == ("episode 40 is cut.", "Copy it again.")


def killed() -> None:
    if get_worker_info() is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_ends_training_with_advice(tmp_path):
    with pytest.raises(
        VpolicyError, match="process that loads data has ended before its work was done: DataLoader"
    ) as error:
        train(tmp_path, Pictures(killed), 2)
    assert "data_workers=0" in error.value.hint and "memory" in error.value.hint


def test_a_process_that_ends_by_itself_ends_training_too(tmp_path):
    with pytest.raises(VpolicyError, match="process that loads data has ended"):
        train(tmp_path, Pictures(lambda: os._exit(3) if get_worker_info() else None), 2)


def test_semaphores_that_cannot_be_made_are_named(tmp_path, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refused)
    with pytest.raises(VpolicyError, match=r"cannot be started: .*Permission denied.* /dev/shm") as error:
        train(tmp_path, Pictures(), 2)
    assert "data_workers=0" in error.value.hint


@pytest.mark.parametrize(
    "error", [RuntimeError("received 0 items of ancdata"), OSError(24, "Too many open files"), OSError(11, "Resource")]
)
def test_limits_of_the_system_are_named(error):
    found = loading.failure_of_loading(error, 4)
    assert found is not None and "4 processes that load data" in found.message and "ulimit -n" in found.hint
    assert loading.failure_of_loading(error, 0) is None
    assert loading.failure_of_loading(OSError(28, "No space left"), 4) is None


def test_a_batch_of_a_process_that_is_gone_is_its_end(monkeypatch):
    def gone(pickled: bytes) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(loading.pickle, "loads", gone)
    with pytest.raises(RuntimeError) as error:
        loading._opened(b"", True)
    found = loading.failure_of_loading(error.value, 2)
    assert found is not None and "has ended before its work was done" in found.message


def test_numbers_of_workers_nobody_asked_for(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [loading.workers_for(None, cpu, 1), loading.workers_for(3, cpu, 1), loading.workers_for(0, cuda, 1)] == [
        0,
        3,
        0,
    ]
    assert [loading.workers_for(None, cuda, devices) for devices in (1, 2, 8)] == [4, 3, 0]


def test_parcels_are_pinned_for_a_device():
    from other_device import other_device  # not where this file is imported by a child

    with other_device():
        pinned = loading.Parcel(Pictures().batch([0])).pin_memory().batch()
    found = [pinned.actions, pinned.action_mask, pinned.observation.state, pinned.observation.images["front"]]
    assert all(hasattr(one, "in_pinned_memory") for one in found)
