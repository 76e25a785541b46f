"""Features as a function of the denoising level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from videopolicy.contracts.checked import (
    Check,
    Part,
    described,
    ensure_frozen_features,
    ensure_kind,
    ensure_tensor,
    wrong,
)
from videopolicy.types import Batch, Branch, FeatureLayout, Observation, RowGenerator, Window


def _ensure_branches(part: FeatureStream, found: Any, method: str) -> None:
    if not isinstance(found, list | tuple) or not found:
        got = "no branch" if isinstance(found, list | tuple) else described(found)
        wrong(part, method, got, "a list of at least one videopolicy.Branch")
    rows, layout = len(part.observation), part.layout
    like = next(iter(part.observation.images.values()), None)
    for branch in found:
        ensure_kind(part, method, branch, Branch)
        for name in ("weight", "last_weight"):
            weight = getattr(branch, name)
            if not isinstance(weight, int | float) and (name == "weight" or weight is not None):
                wrong(part, method, f"a branch whose {name} is {described(weight)}", "a number")
        shape = (rows, layout.tokens, layout.dim)
        ensure_tensor(part, method, branch.tokens, shape, f"rows, {layout}", like, "`tokens`")
        if layout.step_embedding:
            embedded = (rows, layout.step_embedding)
            ensure_tensor(part, method, branch.step_embedding, embedded, "rows, width", like, "`step_embedding`")


def _ensure_at(part: FeatureStream, found: Any, *_: Any, **__: Any) -> object:
    _ensure_branches(part, found, "at")
    return found


def _ensure_descent(part: FeatureStream, found: Any, *_: Any, **__: Any) -> Iterator[Any]:
    for step in found:
        if not isinstance(step, tuple) or len(step) != 3:
            wrong(part, "descend", described(step), "triples of the level, the next level and branches")
        _ensure_branches(part, step[2], "descend")
        yield step


def _ensure_stream(part: FeatureExtractor, found: Any, *_: Any, **__: Any) -> object:
    ensure_kind(part, "stream", found, FeatureStream)
    if found.layout != part.layout:
        wrong(part, "stream", f"features of {found.layout}", f"{part.layout}, as its `layout` says")
    found._origin = part._origin
    return found


class FeatureStream(Part, ABC):
    """Features of one batch of observations.

    Args:
        observation: What the features are of; decoders read the instructions and the state from it.
        layout: How the tokens unfold.
    """

    _checks: ClassVar[Mapping[str, Check]] = {"at": _ensure_at, "descend": _ensure_descent}

    def __init__(self, observation: Observation, layout: FeatureLayout) -> None:
        self.observation = observation
        self.layout = layout
        self.losses: dict[str, Tensor] = {}
        """Weighted losses of the extractor's own, filled on the way by ``at``."""
        self.video_frames = 0
        """Frames of the clip that is denoised together with the actions; 0 where there is none."""
        self.actions = 0
        """Actions that are denoised together with it: those of the training window, or as many as a decoder says."""

    @abstractmethod
    def at(self, level: Tensor) -> list[Branch]:
        """Features at these levels ``(B,)``, in any order: what training uses."""

    @abstractmethod
    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        """Features along falling levels ``(K + 1,)``: what sampling uses.

        Yields:
            K times the level, the next level and the features at the level.
        """


class StaticStream(FeatureStream):
    """The same features at every level.

    Args:
        branches: The features; one of weight 1 without guidance.
    """

    def __init__(self, observation: Observation, layout: FeatureLayout, branches: list[Branch]) -> None:
        super().__init__(observation, layout)
        self.branches = branches

    def at(self, level: Tensor) -> list[Branch]:
        return self.branches

    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        for level, following in pairwise(levels):
            yield level, following, self.branches


class FeatureExtractor(Part, nn.Module, ABC):
    """Turns observations into a stream of features."""

    _checks: ClassVar[Mapping[str, Check]] = {"stream": _ensure_stream, "frozen_features": ensure_frozen_features}

    every_parameter_learns: bool = False
    """See `Learner`."""

    @property
    @abstractmethod
    def window(self) -> Window:
        """Observed frames, and future frames where training needs them; the horizon is 0."""

    @property
    @abstractmethod
    def layout(self) -> FeatureLayout:
        """Width and unfolding of the tokens."""

    @abstractmethod
    def stream(
        self,
        observation: Observation,
        batch: Batch | None = None,
        generator: RowGenerator | None = None,
    ) -> FeatureStream:
        """The features of a batch.

        Args:
            observation: What the policy sees.
            batch: The training windows that the observation belongs to, with their future frames; None when acting.
            generator: Noise of the rows when acting; None in training (torch's global generator).
        """

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """Groups for the optimiser, as `Learner.parameter_groups` has them: parts may learn at rates of their own."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]


@runtime_checkable
class CachesFeatures(Protocol):
    """An extractor with a frozen part whose output can be computed once and kept on disk."""

    def frozen_features(self, observation: Observation, generator: RowGenerator | None) -> Tensor:
        """Output of the frozen part ``(B, ...)``; ``stream`` takes it from ``observation.features`` where it is there.

        Half precision must do: that is how features are kept on disk.
        """
        ...

    @property
    def features_are_frozen(self) -> bool:
        """Whether the part is really frozen as configured."""
        ...
