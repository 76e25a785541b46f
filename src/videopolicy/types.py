"""What flows between the parts. Shapes: B batch, V views, T observed frames, F future frames,
H action horizon, A action dimension, S state dimension, N tokens, D width.

No tensor library is imported at run time here: recipes are checked without one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The stretch of an episode that a learner needs, in environment steps relative to now.

    Args:
        observed: Offsets of the frames and states that the policy sees, ascending, the last one 0.
        future: Offsets of the frames that only training sees, ascending, all positive.
        horizon: H, the number of actions from now on (offsets 0 .. H-1); 0 for none.
        past_actions: P, the number of actions before now (offsets -P .. -1) that condition the policy; 0 for none.
        future_states: Offsets of the states that only training sees, ascending, all positive.
    """

    observed: tuple[int, ...] = (0,)
    future: tuple[int, ...] = ()
    horizon: int = 0
    past_actions: int = 0
    future_states: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.observed or self.observed[-1] != 0 or list(self.observed) != sorted(set(self.observed)):
            raise ValueError(f"observed offsets must ascend and end with 0, not {self.observed}")
        for offsets in (self.future, self.future_states):
            if list(offsets) != sorted(set(offsets)) or any(offset <= 0 for offset in offsets):
                raise ValueError(f"future offsets must ascend and be positive, not {offsets}")


@dataclass
class Observation:
    """What a policy sees.

    Args:
        images: Per camera ``(B, T, 3, height, width)`` uint8.
        instructions: B sentences.
        state: ``(B, T, S)`` proprioception, or None.
        features: Frozen features of these observations, computed earlier by the extractor's
            ``frozen_features``; None means that the extractor computes them.
        past_actions: ``(B, P, A)`` actions that led here, NaN where there was none or it is not known; None when the
            window asks for none.
        rows: Those that are really asked about when acting; None: all. The others only keep the batch at its size, and
            what a policy remembers of them from one call of `act` to the next must stay as it is.
    """

    images: dict[str, Tensor]
    instructions: list[str]
    state: Tensor | None = None
    features: Tensor | None = None
    past_actions: Tensor | None = None
    rows: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.instructions)

    def to(self, device: torch.device) -> Observation:
        """The same observation on another device, for which nothing waits (`to_device`)."""
        return self._with_all(lambda values: to_device(values, device))

    def pin_memory(self) -> Observation:
        """The same observation in pinned memory: what torch's loaders ask of a batch that a device will get."""
        return self._with_all(lambda values: values.pin_memory())

    def _with_all(self, change: Callable[[Tensor], Tensor]) -> Observation:
        return Observation(
            {name: change(images) for name, images in self.images.items()},
            self.instructions,
            None if self.state is None else change(self.state),
            None if self.features is None else change(self.features),
            None if self.past_actions is None else change(self.past_actions),
            self.rows,
        )


@dataclass
class Batch:
    """Training windows.

    Args:
        observation: What the policy would have seen.
        future: Per camera ``(B, F, 3, height, width)`` uint8, or empty.
        future_mask: ``(B, F)`` bool, False where the episode had ended (the last frame is repeated there).
        actions: ``(B, H, A)``, or None when the window asks for none.
        action_mask: ``(B, H)`` bool, False where no action was recorded; losses must ignore those.
        future_state: ``(B, K, S)`` at the window's ``future_states``, or None when it asks for none or there is none.
        future_state_mask: ``(B, K)`` bool, False where the episode had ended (the last state is repeated there).
        latents: Per camera ``(B, T + F, c, h, w)``, observed and future frames as the learner's own autoencoder has
            encoded them earlier; ``images`` and ``future`` then are empty.
    """

    observation: Observation
    future: dict[str, Tensor] = field(default_factory=dict)
    future_mask: Tensor | None = None
    actions: Tensor | None = None
    action_mask: Tensor | None = None
    future_state: Tensor | None = None
    future_state_mask: Tensor | None = None
    latents: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.observation)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device, for which nothing waits (`to_device`)."""
        return self._with_all(self.observation.to(device), lambda values: to_device(values, device))

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory, see `Observation.pin_memory`."""
        return self._with_all(self.observation.pin_memory(), lambda values: values.pin_memory())

    def _with_all(self, observation: Observation, change: Callable[[Tensor], Tensor]) -> Batch:
        def changed(value: Tensor | None) -> Tensor | None:
            return None if value is None else change(value)

        return Batch(
            observation,
            {name: change(frames) for name, frames in self.future.items()},
            changed(self.future_mask),
            changed(self.actions),
            changed(self.action_mask),
            changed(self.future_state),
            changed(self.future_state_mask),
            {name: change(frames) for name, frames in self.latents.items()},
        )


@dataclass(frozen=True)
class FeatureLayout:
    """How the N tokens of width D unfold.

    Args:
        dim: D.
        axes: Named sizes in the order in which tokens run, the last one fastest, such as
            ``(("views", 2), ("frames", 16), ("height", 16), ("width", 16))``; their product is N.
            No axes: a single vector, N = 1.
        step_embedding: Width of the backbone's embedding of the noise level, 0 where there is none.
    """

    dim: int
    axes: tuple[tuple[str, int], ...] = ()
    step_embedding: int = 0

    @property
    def tokens(self) -> int:
        return math.prod(size for _, size in self.axes)

    def has(self, *names: str) -> bool:
        """Whether all these axes are there, such as ``has("height", "width")`` for a grid."""
        return {name for name, _ in self.axes} >= set(names)

    def __str__(self) -> str:
        axes = " x ".join(f"{size} {name}" for name, size in self.axes) or "one vector"
        return f"{axes} of width {self.dim}"


@dataclass
class Branch:
    """One weighted branch of features; the guided prediction is the weighted sum over branches.

    Args:
        weight: 1 without guidance; 1 - s and s for the unconditional and conditional branch at scale s.
        tokens: ``(B, N, D)``.
        step_embedding: ``(B, E)``, the backbone's own embedding of the noise level, where it has one.
        last_weight: Of the last action of a chunk, where the weight goes linearly from ``weight``, which is the first
            action's, to this one; None: the weight is that of all actions.
    """

    weight: float
    tokens: Tensor
    step_embedding: Tensor | None = None
    last_weight: float | None = None

    def weights(self, actions: int, device: torch.device | None = None) -> Tensor:
        """The weight of every action of a chunk ``(H,)``, made where it is needed."""
        import torch

        last = self.weight if self.last_weight is None else self.last_weight
        return torch.linspace(self.weight, last, actions, device=device)


def weighted_sum(branches: Sequence[Branch], predictions: Iterable[Tensor]) -> Tensor:
    """The guided prediction ``(..., H, A)``: those of all branches, each ``(..., H, A)``, by their weights."""
    import torch

    weighted = [
        branch.weights(one.shape[-2], one.device).to(one.dtype)[:, None] * one
        for branch, one in zip(branches, predictions, strict=True)
    ]
    return torch.stack(weighted).sum(dim=0)


class RowGenerator:
    """A source of noise in which every row of a batch has a generator of its own.

    What one episode draws then depends on nothing but itself, whatever shares its batch. Numbers are drawn on the
    processor and sent to the device, which is not waited for: they are the same wherever the policy runs.

    Args:
        generators: One CPU generator per row.
    """

    def __init__(self, generators: list[torch.Generator]) -> None:
        self.generators = generators

    @classmethod
    def from_seeds(cls, seeds: list[int]) -> RowGenerator:
        import torch

        return cls([torch.Generator().manual_seed(seed) for seed in seeds])

    def __len__(self) -> int:
        return len(self.generators)

    def repeat(self, times: int) -> RowGenerator:
        """Rows repeated ``times`` in a row each (views folded into the batch); draws stay in order."""
        return RowGenerator([generator for generator in self.generators for _ in range(times)])

    def randn(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Unit normal noise ``(rows, *shape)`` with the device and type of ``like``."""
        import torch

        # Also where networks are built or traced without memory.
        rows = [torch.randn(shape, generator=generator, device="cpu") for generator in self.generators]
        return to_device(torch.stack(rows), like.device, like.dtype)


def to_device(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The same values on another device, for whose work nothing waits.

    A copy from ordinary memory waits until the device has done all that was asked of it before; one from pinned memory
    queues up behind it.

    Args:
        values: On any device.
        device: Where they are needed.
        dtype: What they become there; converted on the way, a copy would wait after all. None: what they are.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        moved = values.pin_memory().to(device, non_blocking=True)
    else:
        moved = values.to(device)
    return moved if dtype is None else moved.to(dtype)


def normal_noise(shape: tuple[int, ...], like: Tensor, generator: RowGenerator | None = None) -> Tensor:
    """Unit normal noise ``(B, ...)``: from the rows' own generators when acting, from torch's global
    generator (which training reseeds at every step) when ``generator`` is None."""
    import torch

    if generator is None:
        return torch.randn(shape, device=like.device, dtype=like.dtype)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for {shape[0]} rows")
    return generator.randn(tuple(shape[1:]), like)


def of_first_process(drawn: Tensor, device: torch.device) -> Tensor:
    """What the first of the processes that train together has drawn; what was drawn where there is only one.

    All of them must ask, each with a tensor of the same shape and type.

    Args:
        drawn: On the processor.
        device: Where this process trains, over which the processes talk.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return drawn
    shared = drawn.to(device)
    distributed.broadcast(shared, src=0)
    return shared.cpu()


def with_features(batch: Batch, features: Tensor) -> Batch:
    """The same batch with frozen features put in place of computing them."""
    return replace(batch, observation=replace(batch.observation, features=features))
