"""What stands between the episode loop and a policy: units, tensors, and noise that belongs to an episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from videopolicy.contracts.checked import values_checked, wrong
from videopolicy.contracts.policy import Policy
from videopolicy.evaluation.compiling import compile_modules, ensure_compiler, failures_explained
from videopolicy.evaluation.graphs import capture, ensure_graphs
from videopolicy.recipes.recipe import Evaluation
from videopolicy.spaces import ActionSpace
from videopolicy.training.normalization import Normalizer
from videopolicy.types import Observation, RowGenerator

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def ensure_ways_to_act(settings: Evaluation, device: torch.device) -> None:
    """Check that policies can act as a recipe requires, before hours of training.

    Raises:
        VpolicyError: The device, or what is installed for it, cannot.
    """
    if settings.compile:
        ensure_compiler("eval.compile", device)
    if settings.graphs:
        ensure_graphs("eval.graphs", device)


class Actor(Protocol):
    """Chooses chunks of actions for a batch of fixed size."""

    def prepare(self, observation: Observation) -> None:
        """Do what takes long and is done once, before the first decision of all rows.

        Args:
            observation: Of the sizes that are to come.
        """

    def reset(self, rows: list[int]) -> None:
        """New episodes or sub-tasks begin in these rows."""

    def act(self, observation: Observation, generator: RowGenerator) -> np.ndarray:
        """Actions ``(B, H, A)`` in the simulator's units, within the bounds."""
        ...


class PolicyActor:
    """A trained (or untrained) policy in the simulator's units.

    Args:
        policy: Put into evaluation mode.
        normalizer: Stored with the policy's weights.
        actions: For the bounds, to which actions are clipped.
        device: Where the policy runs.
        precision: ``fp32``, ``bf16`` or ``fp16``; what actions are scaled with is always fp32.
        compiled: Whether `prepare` compiles what the policy runs.
        graphs: Whether `prepare` lets what the policy runs be captured as CUDA graphs.
    """

    def __init__(
        self,
        policy: Policy,
        normalizer: Normalizer,
        actions: ActionSpace,
        device: torch.device,
        precision: str = "fp32",
        compiled: bool = False,
        graphs: bool = False,
    ) -> None:
        self._compiled, self._graphs = compiled, graphs
        self.policy = policy.eval().to(device)
        self._numbers: Callable[[], AbstractContextManager[Any]] = nullcontext
        if precision != "fp32":
            # A weight that was cast for a graph must be there when it is replayed, so every graph casts its own.
            self._numbers = partial(torch.autocast, device.type, _HALF[precision], cache_enabled=not graphs)
            # Autocast remembers the cast of a weight only where the weight could learn; nothing here does.
            self.policy.requires_grad_(True)
        self.normalizer = normalizer.to(device)
        self.low, self.high = np.array(actions.low, np.float32), np.array(actions.high, np.float32)
        self.device = device

    @property
    def fixes_rows(self) -> bool:
        """Whether `prepare` will compile or capture the policy, for batches of one size; false once it has."""
        return self._compiled or self._graphs

    def prepare(self, observation: Observation) -> None:
        """See `Actor.prepare`; the policy remembers nothing of it.

        Raises:
            VpolicyError: torch cannot compile the policy.
        """
        rows = list(range(len(observation)))

        def decide() -> None:
            self.policy.reset(rows)
            self.act(observation, RowGenerator.from_seeds(rows))

        if self._compiled:
            with failures_explained("eval.compile"):
                compile_modules(self.policy, decide)
                decide()
        if self._graphs:
            capture(self.policy, decide, self.device)
            decide()
        if self._compiled or self._graphs:
            self.policy.reset(rows)
        self._compiled = self._graphs = False

    def reset(self, rows: list[int]) -> None:
        self.policy.reset(rows)

    @torch.inference_mode()
    def act(self, observation: Observation, generator: RowGenerator) -> np.ndarray:
        """See `Actor.act`.

        Raises:
            PluginError: An action is NaN or infinite; the part from which that comes is named.
        """
        seen = self.normalizer.observation(observation.to(self.device))
        with self._numbers():
            chosen = self.policy.act(seen, generator).float()
        actions = self.normalizer.physical(chosen).cpu().numpy()
        if not np.isfinite(actions).all():
            with values_checked(), self._numbers():
                self.policy.act(seen, generator)
            finite = bool(torch.isfinite(chosen).all())
            wrong(
                "the scaling of actions" if finite else self.policy,
                "physical" if finite else "act",
                "NaN or infinity",
                "numbers",
                "Look at the statistics of the data." if finite else "Look for a division by zero in it.",
            )
        return np.clip(actions, self.low, self.high)


class RandomActor:
    """Uniformly random actions within the bounds: what success by chance looks like.

    It looks at nothing, so it is asked rarely: pictures cost more than steps of most simulators.

    Args:
        actions: The bounds.
        execute: Actions that are drawn at once, as many as a policy executes.
        chunks: Draws behind one another that make H.
    """

    def __init__(self, actions: ActionSpace, execute: int, chunks: int = 1) -> None:
        self.low, self.high = torch.tensor(actions.low), torch.tensor(actions.high)
        self.execute, self.chunks = execute, chunks

    def prepare(self, observation: Observation) -> None:
        """Nothing takes long."""

    def reset(self, rows: list[int]) -> None:
        """Nothing is remembered."""

    def act(self, observation: Observation, generator: RowGenerator) -> np.ndarray:
        shape = (self.execute, len(self.low))
        draws = torch.stack(
            [torch.cat([torch.rand(shape, generator=one) for _ in range(self.chunks)]) for one in generator.generators]
        )
        return (self.low + draws * (self.high - self.low)).numpy()


class History:
    """The observations of one episode that a window can still ask for.

    Args:
        offsets: The window's observed offsets, the last one 0.
        first: The observation after the reset; it also stands for everything before.
    """

    def __init__(self, offsets: Sequence[int], first: dict) -> None:
        self.offsets = offsets
        self.now = 0
        self._seen = {0: first}

    def wanted(self, count: int) -> list[int]:
        """Which of the next ``count`` actions (1-based) must be followed by an observation, given that
        decisions are taken every ``count`` steps."""
        reach = -self.offsets[0]
        decisions = range(self.now + count, self.now + count + reach + 1, count)
        times = {decision + offset for decision in decisions for offset in self.offsets}
        return [step for step in range(1, count + 1) if self.now + step in times]

    def add(self, count: int, observations: dict[int, dict]) -> None:
        """Count executed actions and keep what was seen after them."""
        for step, observation in observations.items():
            self._seen[self.now + int(step)] = observation
        self.now += count
        oldest = self.now + self.offsets[0]
        kept = {time: seen for time, seen in self._seen.items() if time >= oldest}
        before = [time for time in self._seen if time < oldest]
        if oldest <= 0 and 0 in self._seen:
            kept[0] = self._seen[0]
        elif not kept and before:
            kept[max(before)] = self._seen[max(before)]
        self._seen = kept

    def observed(self) -> list[dict]:
        """The observations at the window's offsets."""
        return [self._seen[max(0, self.now + offset)] for offset in self.offsets]


class Seen(NamedTuple):
    """What one episode gives the policy.

    Args:
        observations: The T observations of the worker, oldest first.
        instruction: The task as a sentence.
        past_actions: ``(P, A)`` from `last_actions`; None where the policy does not ask for any.
    """

    observations: Sequence[dict]
    instruction: str
    past_actions: np.ndarray | None = None


def last_actions(executed: np.ndarray, count: int) -> np.ndarray:
    """The last ``count`` of the executed actions ``(n, A)``, NaN before the first of them."""
    known = executed[max(0, len(executed) - count) :]
    before = np.full((count - len(known), executed.shape[1]), np.nan, np.float32)
    return np.concatenate([before, known], dtype=np.float32)


def stack_observations(rows: Sequence[Seen | None]) -> Observation:
    """Observations of several episodes as one batch; empty rows (None) repeat the first filled one."""
    filling = next(row for row in rows if row is not None)
    full = [row or filling for row in rows]
    first = filling.observations[0]
    images = {
        name: torch.stack([torch.from_numpy(np.stack([o["images"][name] for o in row.observations])) for row in full])
        .permute(0, 1, 4, 2, 3)
        .contiguous()
        for name in first["images"]
    }
    state = past = None
    if first.get("state") is not None:
        state = torch.from_numpy(np.stack([np.stack([o["state"] for o in row.observations]) for row in full])).float()
    if filling.past_actions is not None:
        past = torch.from_numpy(np.stack([row.past_actions for row in full if row.past_actions is not None]))
    asked = tuple(index for index, row in enumerate(rows) if row is not None)
    return Observation(images, [row.instruction for row in full], state, past_actions=past, rows=asked)
