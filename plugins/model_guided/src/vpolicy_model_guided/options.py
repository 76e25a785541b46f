"""Options of the component `model-guided`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from videopolicy import AnyLearner, AnyPolicy, Window
from videopolicy.parts.options import Options
from vpolicy_model_guided.scores import ColorDistance, GoalImage


class ModelGuidedOptions(Options):
    """Options of `model-guided`.

    Args:
        proposer: Any policy that samples; one that answers always alike leaves nothing to choose.
        dynamics: What predicts video under actions: a policy or another learner, such as `uva` trained in the mode
            ``forward``. A video model that does not look at actions ranks noise.
        score: By which the predictions are ranked.
        samples: Chunks per decision; the paper's 100. 1 is the proposer alone.
        batch: Chunks that are sampled and predicted at a time. It bounds the memory, and means nothing else.
    """

    proposer: AnyPolicy
    dynamics: AnyLearner
    score: Annotated[ColorDistance | GoalImage, Field(discriminator="type")]
    samples: int = Field(100, ge=1)
    batch: int = Field(32, ge=1)

    def window(self) -> Window:
        proposer, dynamics = self.proposer.window(), self.dynamics.window()
        return Window(
            observed=tuple(sorted({*proposer.observed, *dynamics.observed})),
            future=tuple(sorted({*proposer.future, *dynamics.future})),
            horizon=proposer.horizon,
            past_actions=max(proposer.past_actions, dynamics.past_actions),
            future_states=tuple(sorted({*proposer.future_states, *dynamics.future_states})),
        )
