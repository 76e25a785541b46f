"""The robot's state at the steps to come, predicted from the joint latent while training."""

from __future__ import annotations

from torch import Tensor, nn

from videopolicy import FeatureLayout
from videopolicy.parts.masks import masked_mean, without_masked
from vpolicy_uva.aggregation import aggregation
from vpolicy_uva.head import DiffusionHead
from vpolicy_uva.options import StateHead


class StatePrediction(nn.Module):
    """See `vpolicy_uva.options.StateHead`.

    Args:
        options: Dimensions and sizes.
        layout: Of the joint latent.
        steps: K, states to come.
        state_dim: S.
    """

    def __init__(self, options: StateHead, layout: FeatureLayout, steps: int, state_dim: int) -> None:
        super().__init__()
        self.dimensions = list(options.dimensions or range(state_dim))
        self.aggregation = aggregation(options.aggregation, layout, steps)
        self.head = DiffusionHead(options.head, len(self.dimensions), layout.dim)

    def loss(self, joint: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Mean loss of the states that are there, every one denoised by itself at a level of its own.

        Args:
            joint: ``(B, T S, D)``.
            states: ``(B, K, S)``.
            mask: ``(B, K)``.
        """
        states = without_masked(states[..., self.dimensions], mask)
        latents = self.aggregation(joint.to(self.head.condition_in.weight.dtype))
        losses = self.head.losses(states.flatten(0, 1), latents.flatten(0, 1)).view(mask.shape)
        return masked_mean(losses, mask)
