"""The component `model-guided` and its options (Li et al. 2025, arXiv 2503.00200, section VII)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from videopolicy import AnyLearner, AnyPolicy, Component, PolicyComponent, Spaces, Window, hookimpl
from vpolicy_model_guided.scores import ColorDistance, GoalImage

if TYPE_CHECKING:
    from vpolicy_model_guided.policy import GuidedPolicy


class ModelGuided(PolicyComponent):
    """A policy that tries its ideas in a video model first (Li et al. 2025, section VII).

    The proposer samples chunks of actions, the dynamics model predicts what each of them would look like, and the
    chunk with the best prediction is returned. The paper executes 6 of 16 actions before it samples again
    (``eval.execute``).

    Args:
        proposer: Any policy that samples; one that answers always alike leaves nothing to choose.
        dynamics: What predicts video under actions: a policy or another learner, such as `uva` trained in the mode
            ``forward``. A video model that does not look at actions ranks noise.
        score: By which the predictions are ranked.
        samples: Chunks per decision; the paper's 100. 1 is the proposer alone.
        batch: Chunks that are sampled and predicted at a time. It bounds the memory, and means nothing else.
    """

    type: Literal["model-guided"] = "model-guided"
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

    def check(self, spaces: Spaces) -> list[str]:
        found = [*self.proposer.check(spaces), *self.dynamics.check(spaces)]
        proposed, dynamics = self.proposer.window().horizon, self.dynamics.window()
        needed = dynamics.horizon or dynamics.future[-1]
        if needed > proposed:
            found.append(
                f"the dynamics '{self.dynamics.type}' needs {needed} actions to predict its last frame, and the "
                f"proposer '{self.proposer.type}' proposes {proposed}"
            )
        if self.score.view >= len(spaces.cameras):
            found.append(
                f"score.view is {self.score.view}, counted from 0, and there are {len(spaces.cameras)} cameras"
            )
        return found

    def fetch(self) -> None:
        self.score.fetch()

    def build(self, spaces: Spaces) -> GuidedPolicy:
        from vpolicy_model_guided.policy import GuidedPolicy

        return GuidedPolicy(self, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [ModelGuided]
