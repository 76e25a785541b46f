"""UVA's action decoder by itself against recorded outputs of the official code: schedules, and losses and actions from
recorded joint latents.

Tolerances are those of the recordings, the noise between two CPU kernel sets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from vpolicy_uva.action import UvaActionDecoder
from vpolicy_uva.components import UvaAction
from vpolicy_uva.diffusion import Diffusion, TemperedScheduler, cosine_signal
from vpolicy_uva.importing.names import model_names
from vpolicy_uva.options import ActionHead

from videopolicy import ActionSpace, Branch, Camera, FeatureLayout, Observation, RowGenerator, Spaces, StaticStream

pytestmark = pytest.mark.oracle


class Case:
    """A decoder with the official weights of one recorded case, and the joint latent of its policy mode."""

    def __init__(self, oracle: dict[str, Any], name: str) -> None:
        meta = oracle["meta"]["cases"][name]
        self.outputs, self.draws = oracle["outputs"][name], oracle["draws"][name]
        self.actions = oracle["inputs"][name]["actions"].float()
        self.rows, self.channels, self.horizon = meta["batch"], meta["act_dim"], oracle["meta"]["actions"]
        options = UvaAction(
            horizon=self.horizon,
            aggregation=meta["action_model_params"]["act_model_type"],
            head=ActionHead(
                width=meta["diffloss_act_w"],
                depth=meta["diffloss_act_d"],
                sampling_steps=int(meta["act_diff_testing_steps"]),
                temperature=oracle["meta"]["temperature"],
            ),
        )
        side = meta["img_size"] // meta["vae_stride"] // meta["patch_size"]
        axes = (("frames", oracle["meta"]["frames"]), ("height", side), ("width", side))
        layout = FeatureLayout(meta["decoder_embed_dim"], axes)
        self.decoder: UvaActionDecoder = options.build(layout, spaces(self.channels)).eval()
        self.decoder.load_state_dict(ours(oracle["state"][name], options.aggregation))
        latent = self.outputs["sample"]["policy"]["z_last"].float()
        self.stream = StaticStream(Observation({}, [""] * self.rows), layout, [Branch(1.0, latent)])

    def recorded(self, draws: list[Any], kind: type[RowGenerator]) -> Any:
        """Draws of all vectors of the batch, per row."""
        return kind(*(draw.float().view(self.rows, self.horizon, self.channels) for _, draw in draws))


def ours(state: dict[str, Tensor], aggregation: str) -> dict[str, Tensor]:
    """The official state of the action head under our names."""
    names = model_names((name for name in state if name.startswith("diffactloss.")), aggregation)
    return {mine.removeprefix("action."): state[theirs].float() for theirs, mine in names.items()}


def spaces(actions: int) -> Spaces:
    return Spaces(
        cameras=(Camera(name="main", height=256, width=256),),
        actions=ActionSpace(
            names=tuple(f"a{index}" for index in range(actions)),
            low=(-1.0,) * actions,
            high=(1.0,) * actions,
            control="absolute_position",
            rate=10,
        ),
    )


@pytest.fixture(scope="module")
def cases(uva_oracle: dict[str, Any]) -> dict[str, Case]:
    return {name: Case(uva_oracle, name) for name in uva_oracle["meta"]["cases"]}


def test_training_schedule(uva_oracle: dict[str, Any]) -> None:
    expected = uva_oracle["outputs"]["diffusion"]["train"]["alphas_cumprod"].numpy()
    count = len(expected)
    np.testing.assert_allclose(cosine_signal(count), expected, rtol=1e-9)
    some = [0, count // 2, count - 1]
    level = Diffusion(count).level(torch.tensor(some)).double().numpy()
    np.testing.assert_allclose(level, np.sqrt(1 / expected[some] - 1), rtol=1e-6)


def test_respaced_schedules(uva_oracle: dict[str, Any], uva_steps: int) -> None:
    schedules, steps = uva_oracle["outputs"]["diffusion"], uva_steps
    expected = schedules[str(steps)]
    sampler = TemperedScheduler(len(schedules["train"]["alphas_cumprod"]), steps, temperature=1.0, clip=None)
    assert sampler.timesteps.tolist() == expected["timestep_map"][::-1]
    signal = expected["alphas_cumprod"].flip(0)
    torch.testing.assert_close(sampler.levels[:-1].double(), (1 / signal - 1).sqrt(), rtol=1e-6, atol=0)
    # Where the network's variance is -1 the log variance is the posterior's, where it is 1 it is beta's.
    sample = torch.zeros(1, 1)
    for index in range(steps - 1):
        for fraction, log_variance in (
            (-1.0, expected["posterior_log_variance_clipped"]),
            (1.0, expected["betas"].log()),
        ):
            output = torch.tensor([[0.0, fraction]])
            deviation = sampler.advance(index, output, sample, torch.ones(1, 1))
            torch.testing.assert_close(
                deviation.double().squeeze(), (0.5 * log_variance.flip(0)[index]).exp(), rtol=1e-5, atol=0
            )


def test_actions_from_the_joint_latent(
    cases: dict[str, Case], uva_case: str, recorded_noise: type[RowGenerator]
) -> None:
    case = cases[uva_case]
    drawn = case.draws["sample"]["policy"]
    generator = case.recorded(drawn["draws"], recorded_noise)
    found = case.decoder.sample(case.stream, generator)
    torch.testing.assert_close(found, case.outputs["sample"]["policy"]["action"], atol=2e-4, rtol=0)
    assert not generator.draws


def test_loss_from_the_joint_latent(cases: dict[str, Case], uva_case: str) -> None:
    # In the policy mode the joint latent is the same in training and sampling.
    case = cases[uva_case]
    (_, timestep), (_, noise) = case.draws["modes"]["policy_model"]["draws"][:2]
    with torch.no_grad():
        (branch,) = case.stream.branches
        condition = case.decoder.aggregation(branch.tokens)
        losses = case.decoder.head.losses(
            case.actions.flatten(0, 1), condition.flatten(0, 1), timestep.long(), noise.float()
        )
    torch.testing.assert_close(losses.mean(), case.outputs["modes"]["policy_model"]["action_loss"], atol=0, rtol=1e-4)
