"""Our Unified Video Action model against recorded outputs of the official code: joint latent, losses and samples of
every mode, autoregressive video, and the autoencoder.

Tolerances are those of the recordings, the noise between two CPU kernel sets; wrong orders of frames or actions or a
wrong text are off by 0.03 to 4. Recorded latents and draws take the place of our own images and noise.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from vpolicy_uva import joint as joint_module
from vpolicy_uva.components import ActionHead, Head, KlLatent, Transformer, Uva, UvaAction, UvaJoint
from vpolicy_uva.head import DiffusionHead
from vpolicy_uva.importing.names import autoencoder_names, model_names
from vpolicy_uva.latents import build_latents
from vpolicy_uva.policy import UvaPolicy

from videopolicy import (
    ActionSpace,
    Batch,
    Branch,
    Camera,
    EncodedText,
    Observation,
    RowGenerator,
    Spaces,
    StateSpace,
    StaticStream,
    TextComponent,
    TextEncoder,
)

pytestmark = pytest.mark.oracle

CASES = ["pusht", "libero10", "umi", "toolhang", "history_action", "conv_ori"]
MODES = {
    "video_model": "video",
    "dynamic_model": "forward",
    "policy_model": "policy",
    "inverse_model": "inverse",
    "full_dynamic_model": "full",
}
STATE = {
    "umi": (
        "robot0_eef_pos",
        "robot0_eef_rot_axis_angle",
        "robot0_gripper_width",
        "robot0_eef_rot_axis_angle_wrt_start",
    ),
    "toolhang": ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"),
}
PLANS = {"policy": "policy", "inverse": "inverse", "video4": "video", "forward_dynamics": "forward"}
PLANS |= {"full4": "full", "full2": "full"}


def close(actual: Tensor, expected: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(actual.float(), expected.float(), atol=atol, rtol=rtol)


class GivenText(TextComponent):
    """A vector that the test hands over."""

    type: Literal["given"] = "given"

    @property
    def pooled_dim(self) -> int:
        return 512

    def build(self) -> TextEncoder:
        return GivenTextEncoder()


class GivenTextEncoder(TextEncoder):
    given: Tensor

    def forward(self, sentences: list[str]) -> EncodedText:
        return EncodedText(self.given[:, None], self.given)


class Drawn(RowGenerator):
    """Gives recorded draws of whole batches, row by row, in their order."""

    def __init__(self, rows: int, draws: list[tuple[str, Tensor]]) -> None:
        super().__init__([torch.Generator() for _ in range(rows)])
        self.draws = [draw.float() for _, draw in draws]

    def randn(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        draw = self.draws.pop(0)
        assert draw.numel() == len(self) * torch.Size(shape).numel()
        return draw.reshape(len(self), *shape).to(like)


class Case:
    """A policy with the official weights of one recorded case."""

    def __init__(self, oracle: dict[str, Any], name: str) -> None:
        self.name, self.meta = name, oracle["meta"]["cases"][name]
        self.positions = oracle["meta"]["z_selected_positions"]
        self.inputs, self.outputs, self.draws = (oracle[part][name] for part in ("inputs", "outputs", "draws"))
        self.state = {key: value.float() for key, value in oracle["state"][name].items()}
        self.rows = self.meta["batch"]
        self.policy: UvaPolicy = options_of(self.meta).build(spaces_of(self.meta)).eval()
        self.joint = self.policy.joint
        ours = model_names(self.state, self.meta["action_model_params"]["act_model_type"])
        own = self.policy.state_dict().keys()
        parts = {f"joint.latent.{key}" for key in self.joint.latent.state_dict()}
        missing, unexpected = self.policy.load_state_dict(
            {ours[key]: value for key, value in self.state.items() if ours.get(key) in own}, strict=False
        )
        assert set(missing) == parts and not unexpected

    def tokens(self, latents: Tensor) -> Tensor:
        """``(B, T, c, h, w)`` as ``(B, T, S, c)``."""
        return latents.float().flatten(-2).transpose(-1, -2)

    def told(self, monkeypatch: pytest.MonkeyPatch) -> Batch:
        """A window whose pictures stand for the recorded latents, and actions, state and text as recorded."""
        given = self.inputs["proprioception"]
        views = [(self.inputs["history_z"], self.inputs["future_z"])]
        if "second_image_z" in given:
            views.append((given["second_image_z"], given["pred_second_image_z"]))
        history, future = (
            torch.stack([self.tokens(view) for view in kind], dim=1) for kind in zip(*views, strict=True)
        )
        monkeypatch.setattr(
            self.joint, "_encode", lambda images, generator: future if bool((images[0] == 1).all()) else history
        )
        if self.inputs["text"] is not None:
            self.joint.text.given = self.inputs["text"].float()
        blank = torch.zeros(self.rows, 4, 3, 1, 1, dtype=torch.uint8)
        past = self.inputs["history_actions"]
        names = self.joint.cameras
        return Batch(
            Observation(
                dict.fromkeys(names, blank),
                [""] * self.rows,
                self.robot_state()[:, :4] if given else None,
                past_actions=None if past is None else past.float(),
            ),
            dict.fromkeys(names, blank + 1),
            torch.ones(self.rows, 4, dtype=torch.bool),
            self.inputs["actions"].float(),
            torch.ones(self.rows, 16, dtype=torch.bool),
        )

    def robot_state(self) -> Tensor:
        given = self.inputs["proprioception"]
        return torch.cat([given[key] for key in STATE[self.name]], dim=-1).float()

    def selected(self, joint: Tensor) -> Tensor:
        return joint[:, self.positions]


def options_of(meta: dict[str, Any]) -> Uva:
    actions = meta["action_model_params"]
    width, depth, heads = (meta[f"encoder_{name}"] for name in ("embed_dim", "depth", "num_heads"))
    return Uva(
        joint=UvaJoint(
            latent=KlLatent(channels=(32,) * 5, layers=1, latent_channels=meta["vae_embed_dim"]),
            past_actions=16 if meta["use_history_action"] else 0,
            past_action_drop=1 - meta["action_mask_ratio"],
            proprioception=bool(meta["use_proprioception"]),
            text=GivenText() if meta["language_emb_model"] else None,
            text_drop=meta["label_drop_prob"],
            transformer=Transformer(
                width=width,
                depth=depth,
                heads=heads,
                decoder_width=meta["decoder_embed_dim"],
                decoder_depth=meta["decoder_depth"],
                decoder_heads=meta["decoder_num_heads"],
                mlp_ratio=meta["mlp_ratio"],
                attention_dropout=meta["attn_dropout"],
                dropout=meta["proj_dropout"],
            ),
            video=Head(
                width=meta["diffloss_w"], depth=meta["diffloss_d"], sampling_steps=int(meta["num_sampling_steps"])
            ),
            mask_ratio_min=meta["mask_ratio_min"],
        ),
        action=UvaAction(
            aggregation=actions["act_model_type"],
            head=ActionHead(
                width=meta["diffloss_act_w"],
                depth=meta["diffloss_act_d"],
                sampling_steps=int(meta["act_diff_testing_steps"]),
            ),
        ),
    )


def spaces_of(meta: dict[str, Any]) -> Spaces:
    actions = meta["act_dim"]
    state = {"umi": 16, "toolhang": 9}.get(meta["task_name"], 0) if meta["use_proprioception"] else 0
    names = ("main", "wrist") if meta["predict_wrist_img"] else ("main",)
    return Spaces(
        cameras=tuple(Camera(name=name, height=256, width=256) for name in names),
        actions=ActionSpace(
            names=tuple(f"a{index}" for index in range(actions)),
            low=(-1.0,) * actions,
            high=(1.0,) * actions,
            control="absolute_position",
            rate=10,
        ),
        state=StateSpace(names=tuple(f"s{index}" for index in range(state))) if state else None,
    )


@pytest.fixture(scope="module")
def cases(uva_oracle: dict[str, Any]) -> dict[str, Case]:
    return {name: Case(uva_oracle, name) for name in CASES}


def give_draws(
    heads: list[DiffusionHead], draws: list[tuple[str, Tensor]], counted: Tensor, patch: pytest.MonkeyPatch
) -> None:
    """Let the losses of heads, one behind the other, use the recorded levels and noises of the vectors that count."""
    noises = []
    for head in heads:
        (_, level), (_, noise) = draws.pop(0), draws.pop(0)
        patch.setattr(head.diffusion, "draw_timesteps", lambda count, level=level: level.long()[counted])
        noises.append(noise.float()[counted])
    patch.setattr(torch, "randn_like", lambda like: noises.pop(0))


@pytest.mark.parametrize("theirs", MODES)
@pytest.mark.parametrize("name", CASES)
def test_joint_latent_and_losses(
    cases: dict[str, Case], name: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, mode = cases[name], MODES[theirs]
    expected, drawn = case.outputs["modes"][theirs], case.draws["modes"][theirs]
    batch = case.told(monkeypatch)
    masked = drawn["mask_first_frame"].bool()
    monkeypatch.setattr(joint_module, "masked_cells", lambda rows, cells, minimum: masked)
    told, future = case.joint.practise(batch, [mode] * case.rows)
    if name == "toolhang":
        told.state = case.robot_state()
    with torch.no_grad():
        latent = case.joint.transformer(told)
    close(case.selected(latent), expected["z_selected"], 1e-4)

    draws = list(drawn["draws"])
    with torch.no_grad():
        if mode in ("video", "forward", "full"):
            counted = masked[:, None].expand(-1, 4, -1).flatten()
            give_draws(list(case.joint.video_heads), draws, counted, monkeypatch)
            video = case.joint.video_loss(latent, told, future, batch)
            close(video, expected["video_loss"], 0, 1e-4)
        if mode in ("policy", "inverse", "full"):
            everything = torch.ones(case.rows * 16, dtype=torch.bool)
            give_draws([case.policy.action.head], draws, everything, monkeypatch)
            stream = StaticStream(batch.observation, case.policy.layout, [Branch(1.0, latent)])
            action = case.policy.action.loss(stream, batch.actions, batch.action_mask)
            close(action, expected["action_loss"], 0, 1e-4)


@pytest.mark.parametrize("name", CASES)
def test_samples_of_every_plan(cases: dict[str, Case], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases[name]
    batch = case.told(monkeypatch)
    layout, observation = case.policy.layout, batch.observation
    for plan, drawn in case.draws["sample"].items():
        mode, steps = PLANS[plan], drawn["num_iter"]
        latents = []
        hook = case.joint.transformer.register_forward_hook(lambda *call, kept=latents: kept.append(call[-1]))
        told = case.joint.seen(observation, None)
        if mode == "inverse":
            told = case.joint.inferred(batch.future, observation, None)
        if mode == "forward":
            told.actions, told.actions_hidden = batch.actions, ~batch.action_mask
        if name == "toolhang":
            told.state = case.robot_state()
        expected = case.outputs["sample"][plan]
        acting = 1 + case.policy.options.action.head.sampling_steps
        filming = (1 + case.joint.options.video.sampling_steps) * len(case.joint.video_heads)
        draws, last = drawn["draws"], drawn["draws"]
        with torch.no_grad():
            if "video_latent" in expected:
                per_step = acting + filming
                frames = [
                    draw for step in range(steps) for draw in draws[step * per_step + acting : (step + 1) * per_step]
                ]
                order = drawn["orders"].long()
                video = case.joint.generate(told, order, Drawn(case.rows, frames), steps)[:, -1]
                maps = video.transpose(-1, -2).reshape(expected["video_latent"].shape)
                scale = float(expected["video_latent"].float().abs().max())
                close(maps, expected["video_latent"], 1e-5 * scale)
                last = draws[(steps - 1) * per_step :]
            else:
                case.joint.transformer(told)
        hook.remove()
        close(case.selected(latents[-1]), expected["z_last_selected"], 1e-4)
        stream = StaticStream(observation, layout, [Branch(1.0, latents[-1])])
        close(case.policy.action.sample(stream, Drawn(case.rows, last[:acting])), expected["action"], 2e-4)


@pytest.mark.parametrize("name", ["libero10", "history_action"])
def test_what_training_hides(cases: dict[str, Case], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases[name]
    batch = case.told(monkeypatch)
    used = 0
    for theirs, expected in case.outputs["modes"].items():
        if not theirs.startswith("train:"):
            continue
        drawn = case.draws["modes"][theirs]
        masked = drawn["mask_first_frame"].bool()
        monkeypatch.setattr(joint_module, "masked_cells", lambda rows, cells, minimum, masked=masked: masked)
        told, _ = case.joint.practise(batch, [MODES[theirs.removeprefix("train:")]] * case.rows)
        draws = [draw for kind, draw in drawn["draws"] if kind == "rand"]
        if told.past_hidden is not None:
            told.past_hidden = draws.pop(0).float() > case.meta["action_mask_ratio"]
            used += 1
        if told.text_hidden is not None:
            told.text_hidden = draws.pop(0).float() < case.meta["label_drop_prob"]
            used += 1
        with torch.no_grad():
            close(case.selected(case.joint.transformer(told)), expected["z_selected"], 1e-4)
    assert used


def test_autoencoder(uva_oracle: dict[str, Any]) -> None:
    meta = uva_oracle["meta"]["vae"]
    channels = tuple(meta["ch"] * factor for factor in meta["ch_mult"])
    latents = build_latents(KlLatent(channels=channels, scaling_factor=meta["scale"], posterior="mode")).eval()
    state = {key: value.float() for key, value in uva_oracle["state"]["vae"].items()}
    own = latents.vae.state_dict()
    latents.vae.load_state_dict(
        {ours: state[key].reshape(own[ours].shape) for key, ours in autoencoder_names(state).items()}
    )
    outputs, image = uva_oracle["outputs"]["vae"], uva_oracle["inputs"]["vae"]["image"].float()
    with torch.no_grad():
        moments = latents.moments(image)
        mean, log_variance = moments.chunk(2, dim=1)
        close(mean, outputs["mean"], 1e-4)
        close(log_variance, outputs["logvar"], 1e-4)
        drawn = latents.draw(moments[:, None], None)[:, 0]
        close(drawn, outputs["mean"] * meta["scale"], 1e-4)
        close(latents.decode(drawn), outputs["decoded_from_mean"], 1e-4)
