"""A policy: the narrow waist of the framework."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from videopolicy.contracts.checked import Check, ensure_tensor
from videopolicy.contracts.learner import Learner
from videopolicy.types import Observation, RowGenerator


def _ensure_chunks(part: Any, found: Any, observation: Observation, *_: Any, **__: Any) -> object:
    horizon, actions = part._origin.actions if part._origin and part._origin.actions else (part.window.horizon, None)
    like = next(iter(observation.images.values()), None)
    ensure_tensor(part, "act", found, (len(observation), horizon, actions), "rows, horizon, actions", like)
    return found


class Policy(Learner):
    """Chooses actions. Chunk execution, normalisation and recording are wrappers around this, not features of it."""

    _checks: ClassVar[Mapping[str, Check]] = {**Learner._checks, "act": _ensure_chunks}

    practises_inverse: bool = True
    """Of a policy that `InfersActions`: whether training practises that, as its options say. `vpolicy quality` measures
    no other."""

    @abstractmethod
    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        """Normalised actions ``(B, H, A)`` from now on; row b draws noise from ``generator`` row b only.

        Not every row is asked about in every call: see `Observation.rows`.
        """

    def reset(self, rows: list[int]) -> None:
        """Forget what was remembered of these rows of the batch: new episodes or sub-tasks begin there."""

    def video_model(self) -> PredictsVideo | None:
        """The part that shows what this policy expects to happen, for reports and quality measurements.

        By default the policy itself where it predicts video, else the first of its modules that does, in the order in
        which they were assigned. A policy with several overrides this; None for one that predicts no video.
        """
        return next((module for module in self.modules() if isinstance(module, PredictsVideo)), None)


@runtime_checkable
class PredictsVideo(Protocol):
    """Something that can show the future that it expects: it declares all of the following."""

    def predict_video(
        self,
        observation: Observation,
        generator: RowGenerator,
        actions: Tensor | None = None,
        steps: int = 30,
        guidance: float | None = None,
    ) -> Tensor:
        """Predicted clip ``(B, V, T, 3, H, W)`` uint8; frame t stands at offset ``clip_offsets[t]``.

        Args:
            actions: Normalised ``(B, H, A)`` from now on, NaN where none is known; for models that are
                conditioned on them.
            guidance: Scale of classifier-free guidance, 1 for none; None: as the model's own options say.
        """
        ...

    @property
    def clip_offsets(self) -> tuple[int, ...]:
        """Offsets of the predicted frames in environment steps; the first may be 0 (now)."""
        ...

    @property
    def predicted_cameras(self) -> tuple[str, ...]:
        """Names of the cameras that it predicts, in the order of the views V."""
        ...


@runtime_checkable
class InfersActions(Protocol):
    """Something that can read the actions out of frames."""

    def infer_actions(
        self, frames: dict[str, Tensor], generator: RowGenerator, observation: Observation | None = None
    ) -> Tensor:
        """Normalised actions ``(B, H, A)`` that led through frames.

        Args:
            frames: Per camera ``(B, F, 3, H, W)`` uint8, at the future offsets of the policy's window; the first
                action is that of offset 0.
            generator: Noise of the rows.
            observation: What else is known, such as the instruction.
        """
        ...
