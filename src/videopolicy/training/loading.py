"""The batches of a stage, and how processes that load them hand them over to the one that trains.

torch hands tensors over in shared memory, which containers have little of (64 MiB under Docker), and where it runs out
the process that trains waits for ever: the error happens in a thread of torch's queue, which drops the batch. Here a
batch is packed before it reaches the queue. What finds no room goes through the queue itself, which is slower; and an
error of the data arrives as it was raised.
"""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor, multiprocessing
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from videopolicy.contracts.dataset import Windows
from videopolicy.errors import VpolicyError
from videopolicy.seeds import StepOrder
from videopolicy.types import Batch

SHARED_MEMORY = "/dev/shm"
MOST_WORKERS = 4
"""Processes that load data for one device where the recipe does not say."""
_WORKER = "DataLoader worker"  # how torch's messages about one that has ended begin
_OF_THE_SYSTEM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""What it says when it starts no more processes or opens no more files."""


@dataclass(frozen=True)
class Parcel:
    """What has come from another process.

    Args:
        content: A batch; None where the data were wrong.
        shared: Whether its tensors came in shared memory.
        error: What was wrong with the data; None where nothing was.
    """

    content: Batch | None
    shared: bool = True
    error: VpolicyError | None = None

    def pin_memory(self) -> Parcel:
        """The same in pinned memory: what torch's loader asks of it."""
        return replace(self, content=None if self.content is None else self.content.pin_memory())

    def batch(self) -> Batch:
        """The batch.

        Raises:
            VpolicyError: There is none.
        """
        if self.error is not None:
            raise self.error
        assert self.content is not None
        return self.content


@dataclass(frozen=True)
class Packed:
    """A batch, pickled, in the process that has loaded it; torch's queue gives the other one a `Parcel`.

    It is opened when it is taken from the queue: soon after, the process that knows its shared memory may have ended.
    """

    pickled: bytes
    shared: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.pickled, self.shared)


def _opened(pickled: bytes, shared: bool) -> Parcel:
    try:
        return Parcel(pickle.loads(pickled), shared)
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # nobody hands the shared memory over any more
        raise RuntimeError(f"{_WORKER} ended before its batch was taken ({error})") from error


class Steps(IterableDataset):
    """Batches of the steps ``first`` to ``last``, the last one excluded; processes that load data take turns.

    Args:
        windows: The data.
        order: Which of them every step sees.
        first, last: The steps.
        rank, ranks: Of the processes that train together, each of which gets its share of every batch.
    """

    def __init__(self, windows: Windows, order: StepOrder, first: int, last: int, rank: int, ranks: int) -> None:
        self.windows, self.order = windows, order
        self.first, self.last, self.rank, self.ranks = first, last, rank, ranks

    def __iter__(self) -> Iterator[Batch | Packed | Parcel]:
        worker = get_worker_info()
        if worker is None:
            yield from map(self._batch, range(self.first, self.last))
            return
        for step in range(self.first + worker.id, self.last, worker.num_workers):
            try:
                batch = self._batch(step)
            except VpolicyError as error:
                # Of a kind that can surely be pickled.
                yield Parcel(None, error=VpolicyError(error.message, error.hint))
            else:
                yield pack(batch)

    def _batch(self, step: int) -> Batch:
        indices = self.order.indices(step)
        share = len(indices) // self.ranks
        return self.windows.batch(indices[self.rank * share : (self.rank + 1) * share])


def workers_for(asked: int | None, device: torch.device, processes: int) -> int:
    """How many processes load data for one that trains.

    Args:
        asked: By the recipe; None: none where a processor trains, which they would take from it, and some where an
            accelerator does, as far as there are processors.
        device: Where it trains.
        processes: That train on this machine.
    """
    if asked is not None:
        return asked
    return 0 if device.type == "cpu" else min(MOST_WORKERS, len(os.sched_getaffinity(0)) // processes)


def loader(steps: Steps, workers: int, pinned: bool = False) -> DataLoader:
    """What reads the steps in so many processes; 0: in this one.

    Args:
        pinned: Whether batches are brought into pinned memory, from which a device copies while it computes.

    Raises:
        VpolicyError: The system has no semaphores to guard the queues of processes.
    """
    if workers:
        try:
            multiprocessing.get_context().Lock()
        except (OSError, ImportError) as error:
            raise VpolicyError(
                f"Processes that load data cannot be started: {error} (their semaphores lie in {SHARED_MEMORY}).",
                f"Set data_workers=0, or make {SHARED_MEMORY} writable and larger (docker: --shm-size).",
            ) from error
    return DataLoader(steps, batch_size=None, num_workers=workers, pin_memory=pinned)


def pack(batch: Batch) -> Packed:
    """A batch as another process can have it: in shared memory where there is room for all of it."""
    try:
        for tensor in _tensors(batch):
            tensor.share_memory_()
        return Packed(bytes(ForkingPickler.dumps(batch)), shared=True)
    except (RuntimeError, OSError):  # no room, or no further open file
        return Packed(pickle.dumps(batch, pickle.HIGHEST_PROTOCOL), shared=False)


def too_little() -> str:
    """A sentence about the batches that found no room, with the size of the memory that processes share."""
    try:
        found = os.statvfs(SHARED_MEMORY)
        size = f"{SHARED_MEMORY} has {found.f_blocks * found.f_frsize / 2**20:.0f} MiB"
    except OSError:
        size = f"there is no {SHARED_MEMORY}"
    return (
        f"batches of the data workers do not fit into shared memory ({size}) and are copied through pipes, "
        "which takes longer (docker: --shm-size)"
    )


def failure_of_loading(error: BaseException, workers: int) -> VpolicyError | None:
    """What it means that training has ended with an error, where processes that load data have to do with it.

    Args:
        error: The error.
        workers: Number of these processes.
    """
    text = str(error)
    ended = isinstance(error, RuntimeError) and text.startswith(_WORKER)
    files = isinstance(error, RuntimeError) and "ancdata" in text  # descriptors of shared memory that were not taken
    if not workers or not (ended or files or (isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM)):
        return None
    if ended:
        return VpolicyError(
            f"A process that loads data has ended before its work was done: {text.splitlines()[0]}",
            "Most often memory has run out: set a smaller data_workers or batch_size; data_workers=0 loads in the "
            "process that trains. The same command goes on from the last checkpoint.",
        )
    return VpolicyError(
        f"The system does not give the {workers} processes that load data what they need: {text}",
        "Set a smaller data_workers, or raise the limits of open files (ulimit -n) and of processes (ulimit -u).",
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a batch."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
