"""The component `model-guided` (Li et al. 2025, arXiv 2503.00200, section VII)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from videopolicy import Component, PolicyComponent, Spaces, hookimpl
from vpolicy_model_guided.options import ModelGuidedOptions

if TYPE_CHECKING:
    from vpolicy_model_guided.policy import GuidedPolicy


class ModelGuided(ModelGuidedOptions, PolicyComponent):
    """A policy that tries its ideas in a video model first (Li et al. 2025, section VII).

    The proposer samples chunks of actions, the dynamics model predicts what each of them would look like, and the
    chunk with the best prediction is returned. The paper executes 6 of 16 actions before it samples again
    (``eval.execute``).

    See `ModelGuidedOptions` for the options.
    """

    type: Literal["model-guided"] = "model-guided"

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
