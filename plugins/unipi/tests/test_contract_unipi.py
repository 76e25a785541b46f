"""The policy and inverse dynamics keep what every policy and every learner promises, on several video models."""

from __future__ import annotations

import pytest
import torch
from small_video_model import small
from vpolicy_unipi.components import InverseDynamics, Unipi
from vpolicy_uva.components import UvaJoint
from vpolicy_uva.options import Head, Transformer

from videopolicy import InfersActions, PredictsVideo
from videopolicy.components.text import WordText
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import LearnerContract, PolicyContract, toy_observation, toy_spaces

INVERSE = InverseDynamics(model="resnet10t", image_size=(32, 32), gap=2)


class TestInverseDynamics(LearnerContract):
    @pytest.fixture
    def component(self):
        return INVERSE


class TestOnStableVideoDiffusion(PolicyContract):
    """Whose first frame is the present one, predicted again."""

    @pytest.fixture
    def component(self):
        return Unipi(video=small(stride=2), inverse=INVERSE, video_steps=2)


class TestOnJointModel(PolicyContract):
    """Whose frames begin after the present one, and which sees a history and past actions."""

    @pytest.fixture
    def component(self):
        joint = UvaJoint(
            image_size=(32, 32),
            frames=2,
            stride=2,
            history_stride=2,
            past_actions=4,
            latent=SpaceToDepthLatent(patch=8),
            text=WordText(width=16, words=4, buckets=64, layers=0),
            text_tokens=2,
            text_drop=0.5,
            transformer=Transformer(width=32, depth=1, heads=2, decoder_width=16, decoder_heads=2),
            video=Head(width=16, depth=1, sampling_steps=3),
        )
        return Unipi(video=joint, inverse=INVERSE, video_steps=1)

    def test_trains_all_that_is_trainable(self):
        pytest.skip("what reads actions in the joint model is there and has nothing to do")


def test_it_predicts_video_and_infers_actions():
    policy = Unipi(video=small(stride=2), inverse=INVERSE, video_steps=2).build(toy_spaces(32)).eval()
    assert isinstance(policy, PredictsVideo) and isinstance(policy, InfersActions)
    assert policy.video_model() is policy
    assert policy.window.horizon == 4 and policy.window.future == (2, 4)
    observation = toy_observation(toy_spaces(32), policy.window)
    assert policy.act(observation, _generators()).shape == (2, 4, 4)
    assert policy.predict_video(observation, _generators()).shape == (2, 2, 3, 3, 32, 32)


def _generators():
    from videopolicy import RowGenerator

    return RowGenerator([torch.Generator().manual_seed(row) for row in range(2)])
