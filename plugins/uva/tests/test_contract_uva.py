"""The joint model and the policy keep what every learner and every policy promises."""

from __future__ import annotations

import pytest
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.options import ActionHead, Head, KlLatent, StateHead, Transformer

from videopolicy.components.text import WordText
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import LearnerContract, PolicyContract

SMALL = {
    "image_size": (32, 32),
    "frames": 2,
    "stride": 2,
    "latent": SpaceToDepthLatent(patch=8),
    "text": WordText(width=16, words=4, buckets=64, layers=0),
    "text_tokens": 2,
    "transformer": Transformer(width=32, depth=1, heads=2, decoder_width=16, decoder_heads=2),
    "video": Head(width=16, depth=1, sampling_steps=3),
}
ACTION = UvaAction(horizon=4, head=ActionHead(width=16, depth=1, sampling_steps=4))


class TestForwardDynamics(LearnerContract):
    """Told actions, the joint model alone has a use for all of its parameters."""

    @pytest.fixture
    def component(self):
        return UvaJoint(**SMALL, history_stride=2, text_drop=0.5, forward=True)


class TestVideoModelWithAutoencoder(LearnerContract):
    @pytest.fixture
    def component(self):
        latent = KlLatent(channels=(32, 32, 32), layers=1, latent_channels=4)
        return UvaJoint(**{**SMALL, "latent": latent}, predicted_views=("wrist", "front"))

    def test_trains_all_that_is_trainable(self):
        pytest.skip("alone it learns no actions; the policy's own test covers all of it")


class TestUva(PolicyContract):
    @pytest.fixture
    def component(self):
        joint = UvaJoint(**SMALL, history_stride=2, text_drop=0.5)
        return Uva(joint=joint, action=ACTION, modes=("forward", "full", "inverse"), modes_per="sample")


class TestUvaWithEverything(PolicyContract):
    """Autoencoder, past actions, proprioception, history drawn at random, guidance, one mode a batch."""

    @pytest.fixture
    def component(self):
        joint = UvaJoint(
            **{**SMALL, "latent": KlLatent(channels=(32, 32, 32), layers=1, latent_channels=4)},
            history_stride=2,
            random_history=True,
            past_actions=4,
            proprioception=True,
            predicted_views=("front",),
            inverse_hides="all",
            text_drop=0.5,
        )
        return Uva(joint=joint, action=ACTION, modes=("forward", "inverse", "full"), guidance=2.0)


class TestUvaThatPredictsTheState(PolicyContract):
    """States of every step and to come, a camera that is predicted and not seen."""

    @pytest.fixture
    def component(self):
        joint = UvaJoint(
            **SMALL,
            history_stride=2,
            proprioception=True,
            predict_proprioception=StateHead(
                dimensions=(1, 2), aggregation="fc2", head=ActionHead(width=16, depth=1, sampling_steps=4)
            ),
            seen_views=("front",),
            text_drop=0.5,
        )
        return Uva(joint=joint, action=ACTION, modes=("forward", "full", "inverse"), modes_per="sample")


class TestUvaAction(PolicyContract):
    """The paper's ablation: no video."""

    @pytest.fixture
    def component(self):
        joint = UvaJoint(**{**SMALL, "video": None, "predicted_views": None}, history_stride=0, text_drop=0.5)
        return Uva(joint=joint, action=ACTION, modes=("policy",))

    def test_trains_all_that_is_trainable(self):
        pytest.skip("what reads actions and frames to come is there and has nothing to do")


class TestUvaWithConcatenatedViews(PolicyContract):
    """One clip of both cameras, conditioned on one frame of each, with past actions and the robot's state."""

    @pytest.fixture
    def component(self):
        joint = UvaJoint(
            **SMALL, views="concatenated", history_stride=0, past_actions=4, proprioception=True, text_drop=0.5
        )
        return Uva(joint=joint, action=ACTION, modes=("forward", "full", "inverse"), modes_per="sample")
