"""Whatever training can optimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from videopolicy.contracts.checked import Check, Part, ensure_frozen_features, ensure_losses
from videopolicy.types import Batch, Window


class Learner(Part, nn.Module, ABC):
    """A module that says what data it needs and how wrong it is.

    A stage of training optimises one learner: a whole policy, or a part of it such as its video model.
    """

    _checks: ClassVar[Mapping[str, Check]] = {"loss": ensure_losses, "frozen_features": ensure_frozen_features}

    every_parameter_learns: bool = False
    """Whether every step of training gives each trained parameter a gradient, though it may be zero. Processes that
    train together then need not look for those without."""

    @property
    @abstractmethod
    def window(self) -> Window:
        """The frames and actions that ``loss`` needs."""

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted scalar losses by name; their sum is minimised.

        Random draws come from torch's global generator, which training reseeds at every step.
        """

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """Groups for the optimiser; by default all parameters that require gradients, in one group.

        A group may carry optimiser options such as ``weight_decay`` or ``lr_scale``.
        """
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]
