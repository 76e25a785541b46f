"""Data that a stage has to itself: one dataset, or a mixture of several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from videopolicy.components.fields import AnyDataset
from videopolicy.components.kinds import DatasetComponent
from videopolicy.errors import did_you_mean, listing
from videopolicy.recipes.source import Location
from videopolicy.types import Window

_CLOSE = 1e-6
"""By how much ratios may fail to add up."""

Ratio = Annotated[float, Field(gt=0, le=1)]


class Part(BaseModel):
    """One set of a mixture, of which videos and sentences are used and nothing else.

    Args:
        name: Unique in the mixture; curves are called by it.
        ratio: How often a window is of this part, whatever the parts' sizes; those of all parts add up to 1.
        stride: Steps of the recording from one frame of a clip to the next; None: as many as the learner asks for.
        window_stride: Of its windows, one after the other, every n-th is used: neighbours look nearly the same.
        cameras: How often a window shows which camera; they add up to 1. None: the first camera always. Views are clips
            of their own.
        data: Component. None: the recipe's own data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)
    ratio: Ratio
    stride: int | None = Field(None, ge=1)
    window_stride: int = Field(1, ge=1)
    cameras: dict[str, Ratio] | None = Field(None, min_length=1)
    data: AnyDataset | None = None


def _kind(value: Any) -> str:
    return "mixture" if isinstance(value, list | tuple) else "dataset"


StageData = Annotated[
    Annotated[AnyDataset, Tag("dataset")] | Annotated[Annotated[tuple[Part, ...], Field(min_length=1)], Tag("mixture")],
    Discriminator(_kind),
]
"""A component, or a list of parts."""


def needs_numbers(window: Window) -> bool:
    """Whether a learner needs actions or future states, besides frames, sentences and what state was seen."""
    return window.horizon > 0 or window.past_actions > 0 or bool(window.future_states)


def components_of(data: StageData | None, whole: DatasetComponent | None) -> list[DatasetComponent]:
    """What is read for a stage, each component once.

    Args:
        data: What it has to itself; None for nothing.
        whole: The recipe's data, which it has else, and which parts stand for that name none.
    """
    found = [part.data or whole for part in data] if isinstance(data, tuple) else [data or whole]
    different: list[DatasetComponent] = []
    for one in found:
        if one is not None and one not in different:
            different.append(one)
    return different


def data_problems(
    data: StageData, whole: DatasetComponent | None, window: Window, steps: int
) -> Iterator[tuple[Location, str]]:
    """What is wrong with the data of a stage before they are opened: field and sentence.

    Args:
        data: What it has to itself.
        whole: The recipe's data.
        window: Of what it trains.
        steps: Of the stage.
    """
    if not steps:
        yield ("data",), "0 steps train on nothing: leave it out"
    if isinstance(data, tuple):
        if needs_numbers(window):
            yield ("data",), f"a mixture has videos and no actions, {_needed(window)}"
        yield from _mixture_problems(data, whole)
        return
    actions = data.declared().actions
    if actions is not None and not actions.dim and needs_numbers(window):
        yield ("data",), f"'{data.type}' has videos and no actions, {_needed(window)}"
    if data.demonstrations() is not None:
        yield ("data",), _COLLECTED


_COLLECTED = "only the recipe's own data are collected: give the `path` of demonstrations that are there"


def _needed(window: Window) -> str:
    wanted = "actions" if window.horizon or window.past_actions else "future states"
    return f"and this stage trains something that needs {wanted}: only a video model can be trained on them"


def _mixture_problems(parts: Sequence[Part], whole: DatasetComponent | None) -> Iterator[tuple[Location, str]]:
    names = [part.name for part in parts]
    for index, part in enumerate(parts):
        if part.name in names[:index]:
            yield ("data", index, "name"), f"an earlier part is also named '{part.name}'"
        if part.data is None and whole is None:
            yield ("data", index, "data"), "this field is required: the recipe has no data of its own"
        if part.data is not None and part.data.demonstrations() is not None:
            yield ("data", index, "data"), _COLLECTED
        if part.cameras is None:
            continue
        if (total := math.fsum(part.cameras.values())) and abs(total - 1) > _CLOSE:
            yield ("data", index, "cameras"), f"how often cameras are shown adds up to {total:g}, not to 1"
        source = part.data or whole
        known = source.declared().cameras if source is not None else None
        if known is None:  # the files say it
            continue
        for camera in part.cameras:
            if camera not in known:
                text = f"there is no camera '{camera}'.{did_you_mean(camera, known)} Known: {listing(known)}"
                yield ("data", index, "cameras"), text
    total = math.fsum(part.ratio for part in parts)
    if abs(total - 1) > _CLOSE:
        terms = " + ".join(f"{part.ratio:g}" for part in parts)
        yield ("data",), f"the ratios of its parts add up to {total:g} ({terms}), not to 1"
