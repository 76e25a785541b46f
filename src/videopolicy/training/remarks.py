"""What training does otherwise than a recipe says."""

from __future__ import annotations

from typing import Any

import torch

from videopolicy.console.progress import Reporter
from videopolicy.recipes.recipe import Stage
from videopolicy.training.session import idle_accelerators

_NAMES = {"cpu": "processor"}


class Remarks:
    """Sentences that are printed once a process, and kept in checkpoints and in the facts of a stage.

    Args:
        stage: Name of the stage.
        reporter: Prints.
        known: Of the processes that were killed on the way.
    """

    def __init__(self, stage: str, reporter: Reporter, known: list[str]) -> None:
        self._stage, self._reporter, self._printed = stage, reporter, set[str]()
        self.all = list(known)

    def __deepcopy__(self, memo: dict[int, Any]) -> Remarks:
        return self  # the average of the weights is kept in a copy of what trains

    def add(self, text: str) -> None:
        """Say something, unless it was said before."""
        if text not in self._printed:
            self._printed.add(text)
            self._reporter.line(f"train {self._stage}: {text}")
        if text not in self.all:
            self.all.append(text)


def note_what_differs(
    remarks: Remarks, stage: Stage, windows: int, precisions: list[str], used: str, device: str
) -> None:
    """Say what is done otherwise than one would expect, and note the precision in which it is.

    Args:
        remarks: Get it.
        stage: As the recipe has it.
        windows: How many there are to train on.
        precisions: Those in which the stage was trained up to now; gets the present one.
        used: The present one.
        device: torch's name of the kind of device.
    """
    if used != stage.precision:
        remarks.add(f"{stage.precision} is not possible on a {_NAMES.get(device, device)}; it trains in {used}")
    if used not in precisions:
        precisions.append(used)
    if len(precisions) > 1:
        remarks.add(f"began in {precisions[0]}, goes on in {used}")
    if stage.devices > 1 and device == "cpu":
        remarks.add(f"no accelerator was found; {stage.devices} processes train on processors")
    if device == "cpu" and (reason := idle_accelerators()):
        remarks.add(f"{reason}, but torch {torch.__version__} can use none; it trains on a processor")
    if (wanted := stage.batch_size * stage.devices) > windows:
        remarks.add(f"a batch of {wanted} has some of the {windows} windows several times")
