"""Checkpoints of training, written behind its back.

What is saved is copied to the processor's memory, which is all that a step waits for. A thread writes the copy, whose
file then takes the place of the one before: a process that is killed meanwhile leaves that one.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_map_only

from videopolicy.storage.files import written_whole


class WriteBehind(TorchCheckpointIO):
    """Lightning's way to the disk, through a thread that writes one checkpoint at a time.

    Lightning's own `AsyncCheckpointIO` keeps its copy on the device, where large models leave no room for it, and holds
    the whole file in memory once more.

    Args:
        copies: Whether a checkpoint is copied; without, it is a copy already.
    """

    def __init__(self, copies: bool = True) -> None:
        super().__init__()
        self._copies = copies
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Copy a checkpoint, and leave the copy to the thread, as soon as that has written the one before.

        Raises:
            StorageError: The one before could not be written.
        """
        if self._writing is not None:
            self._writing.result()
        copy = tree_map_only(Tensor, _on_the_processor if self._copies else Tensor.detach, checkpoint)
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing = self._thread.submit(_write, copy, Path(path))

    def teardown(self) -> None:
        """Wait for the thread. Whether it could write no longer matters: nothing goes on from there."""
        if self._thread is not None:
            self._thread.shutdown()
        self._thread = self._writing = None


def _on_the_processor(values: Tensor) -> Tensor:
    return values.detach().to("cpu", copy=True)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with written_whole(path) as part:
        torch.save(checkpoint, part)
