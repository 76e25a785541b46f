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
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.head import DiffusionHead
from vpolicy_uva.importing.names import autoencoder_names, model_names
from vpolicy_uva.latents import build_latents
from vpolicy_uva.options import ActionHead, Head, KlLatent, StateHead, Transformer
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


def close(actual: Tensor, expected: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(actual.float(), expected.float(), atol=atol, rtol=rtol)


class GivenText(TextComponent):
    """A vector that the test hands over."""

    type: Literal["given"] = "given"

    size: int = 512

    @property
    def pooled_dim(self) -> int:
        return self.size

    @property
    def dim(self) -> int:
        return self.size

    @property
    def length(self) -> int:
        return 1

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
        self.positions, self.frames = oracle["meta"]["z_selected_positions"], oracle["meta"]["frames"]
        self.horizon = oracle["meta"]["actions"]
        self.inputs, self.outputs, self.draws = (oracle[part][name] for part in ("inputs", "outputs", "draws"))
        self.state = {key: value.float() for key, value in oracle["state"][name].items()}
        self.rows = self.meta["batch"]
        given = self.inputs["proprioception"] or {}
        self.sees_second, self.predicts_second = "second_image_z" in given, bool(self.meta["predict_wrist_img"])
        self.robot = STATE[self.meta["task_name"]] if self.meta["use_proprioception"] else ()
        self.predicted = [key for key in self.robot if f"{key}_pred" in given]
        self.policy: UvaPolicy = self.options(oracle["meta"]).build(self.spaces()).eval()
        self.joint = self.policy.joint
        ours = model_names(self.state, self.meta["action_model_params"]["act_model_type"])
        own = self.policy.state_dict().keys()
        parts = {f"joint.latent.{key}" for key in self.joint.latent.state_dict()}
        missing, unexpected = self.policy.load_state_dict(
            {ours[key]: value for key, value in self.state.items() if ours.get(key) in own}, strict=False
        )
        assert set(missing) == parts and not unexpected

    @property
    def views(self) -> tuple[str, ...]:
        return ("main", "wrist") if self.sees_second or self.predicts_second else ("main",)

    def options(self, meta: dict[str, Any]) -> Uva:
        case, actions = self.meta, self.meta["action_model_params"]
        width, depth, heads = (case[f"encoder_{name}"] for name in ("embed_dim", "depth", "num_heads"))
        head = ActionHead(
            width=case["diffloss_act_w"],
            depth=case["diffloss_act_d"],
            sampling_steps=int(case["act_diff_testing_steps"]),
            temperature=meta["temperature"],
        )
        stride = self.horizon // self.frames
        # The autoencoder has as many levels as its stride has halvings; latents are recorded, so it is never asked.
        levels = case["vae_stride"].bit_length()
        text = self.inputs["text"]
        return Uva(
            joint=UvaJoint(
                image_size=(case["img_size"], case["img_size"]),
                frames=self.frames,
                stride=stride,
                history_stride=stride,
                latent=KlLatent(channels=(32,) * levels, layers=1, latent_channels=case["vae_embed_dim"]),
                past_actions=self.horizon if case["use_history_action"] else 0,
                past_action_drop=1 - case["action_mask_ratio"],
                proprioception=bool(self.robot),
                states=("frames" if case["different_history_freq"] else "steps") if self.robot else None,
                predict_proprioception=self.state_head(head) if case["predict_proprioception"] else None,
                predicted_views=None if self.predicts_second else ("main",),
                seen_views=None if self.sees_second else ("main",),
                text=GivenText(size=text.shape[-1]) if case["language_emb_model"] else None,
                text_drop=case["label_drop_prob"],
                transformer=Transformer(
                    width=width,
                    depth=depth,
                    heads=heads,
                    decoder_width=case["decoder_embed_dim"],
                    decoder_depth=case["decoder_depth"],
                    decoder_heads=case["decoder_num_heads"],
                    mlp_ratio=case["mlp_ratio"],
                    attention_dropout=case["attn_dropout"],
                    dropout=case["proj_dropout"],
                ),
                video=Head(
                    width=case["diffloss_w"],
                    depth=case["diffloss_d"],
                    sampling_steps=int(case["num_sampling_steps"]),
                    temperature=meta["temperature"],
                ),
                mask_ratio_min=case["mask_ratio_min"],
            ),
            action=UvaAction(horizon=self.horizon, aggregation=actions["act_model_type"], head=head),
        )

    def state_head(self, head: ActionHead) -> StateHead:
        """Of the dimensions whose future is recorded."""
        owner = [key for key in self.robot for _ in range(self.inputs["proprioception"][key].shape[-1])]
        chosen = [dimension for dimension, key in enumerate(owner) if key in self.predicted]
        aggregated = self.meta["action_model_params"]["act_model_type"]
        return StateHead(dimensions=tuple(chosen), aggregation=aggregated, head=head)

    def spaces(self) -> Spaces:
        actions, size = self.meta["act_dim"], self.meta["img_size"]
        state = self.robot_state().shape[-1] if self.robot else 0
        return Spaces(
            cameras=tuple(Camera(name=name, height=size, width=size) for name in self.views),
            actions=ActionSpace(
                names=tuple(f"a{index}" for index in range(actions)),
                low=(-1.0,) * actions,
                high=(1.0,) * actions,
                control="absolute_position",
                rate=10,
            ),
            state=StateSpace(names=tuple(f"s{index}" for index in range(state))) if state else None,
        )

    def tokens(self, latents: Tensor) -> Tensor:
        """``(B, T, c, h, w)`` as ``(B, T, S, c)``."""
        return latents.float().flatten(-2).transpose(-1, -2)

    def batch(self, monkeypatch: pytest.MonkeyPatch) -> Batch:
        """A window whose pictures stand for the recorded latents, and actions, state and text as recorded."""
        given = self.inputs["proprioception"] or {}
        seen, ahead = [self.inputs["history_z"]], [self.inputs["future_z"]]
        if self.sees_second:
            seen.append(given["second_image_z"])
        if self.predicts_second:
            ahead.append(given["pred_second_image_z"])
        history, future = (torch.stack([self.tokens(view) for view in kind], dim=1) for kind in (seen, ahead))
        monkeypatch.setattr(
            self.joint, "_encode", lambda images, generator: future if bool((images[0] == 1).all()) else history
        )
        if self.inputs["text"] is not None:
            self.joint.text.given = self.inputs["text"].float()
        past, window, names = self.inputs["history_actions"], self.policy.window, self.joint.cameras
        state = None
        if self.robot:
            state = torch.full((self.rows, len(window.observed), self.robot_state().shape[-1]), torch.nan)
            places = [window.observed.index(offset) for offset in self.joint.options.state_offsets]
            state[:, places] = self.robot_state()

        def blank(frames: int, byte: int) -> dict[str, Tensor]:
            return dict.fromkeys(names, torch.full((self.rows, frames, 3, 1, 1), byte, dtype=torch.uint8))

        def there(steps: int) -> Tensor:
            return torch.ones(self.rows, steps, dtype=torch.bool)

        return Batch(
            Observation(
                blank(len(window.observed), 0),
                [""] * self.rows,
                state,
                past_actions=None if past is None else past.float(),
            ),
            blank(self.frames, 1),
            there(self.frames),
            self.inputs["actions"].float(),
            there(self.horizon),
            self.robot_state_to_come() if self.predicted else None,
            there(self.horizon),
        )

    def robot_state(self) -> Tensor:
        given = self.inputs["proprioception"]
        return torch.cat([given[key] for key in self.robot], dim=-1).float()

    def robot_state_to_come(self) -> Tensor:
        """NaN where nothing is recorded: nothing may read it."""
        given = self.inputs["proprioception"]
        unknown = {key: torch.full((self.rows, self.horizon, given[key].shape[-1]), torch.nan) for key in self.robot}
        return torch.cat([given.get(f"{key}_pred", unknown[key]) for key in self.robot], dim=-1).float()

    def selected(self, joint: Tensor) -> Tensor:
        return joint[:, self.positions]


@pytest.fixture(scope="module")
def cases(uva_oracle: dict[str, Any]) -> dict[str, Case]:
    return {name: Case(uva_oracle, name) for name in uva_oracle["meta"]["cases"]}


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
def test_joint_latent_and_losses(
    cases: dict[str, Case], uva_case: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, mode = cases[uva_case], MODES[theirs]
    expected, drawn = case.outputs["modes"][theirs], case.draws["modes"][theirs]
    batch = case.batch(monkeypatch)
    masked = drawn["mask_first_frame"].bool()
    monkeypatch.setattr(joint_module, "masked_cells", lambda rows, cells, minimum: masked)
    conditioning, future = case.joint.practise(batch, [mode] * case.rows)
    with torch.no_grad():
        latent = case.joint.transformer(conditioning)
    close(case.selected(latent), expected["z_selected"], 1e-4)

    draws, losses = list(drawn["draws"]), []
    everything = torch.ones(case.rows * case.horizon, dtype=torch.bool)
    with torch.no_grad():
        if mode in ("video", "forward", "full"):
            counted = masked[:, None].expand(-1, case.frames, -1).flatten()
            give_draws(list(case.joint.video_heads), draws, counted, monkeypatch)
            video = case.joint.video_loss(latent, conditioning, future, batch)
            close(video, expected["video_loss"], 0, 1e-4)
            losses.append(video)
        if mode in ("policy", "inverse", "full"):
            give_draws([case.policy.action.head], draws, everything, monkeypatch)
            stream = StaticStream(batch.observation, case.policy.layout, [Branch(1.0, latent)])
            action = case.policy.action.loss(stream, batch.actions, batch.action_mask)
            close(action, expected["action_loss"], 0, 1e-4)
            losses.append(action)
        if case.joint.state_prediction is not None:
            give_draws([case.joint.state_prediction.head], draws, everything, monkeypatch)
            losses += case.joint.state_losses(latent, batch).values()
    assert not draws
    close(torch.stack(losses).sum(), expected["loss"], 0, 1e-4)


def test_samples_of_every_plan(cases: dict[str, Case], uva_case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases[uva_case]
    batch = case.batch(monkeypatch)
    layout, observation = case.policy.layout, batch.observation
    for plan, drawn in case.draws["sample"].items():
        mode, steps = MODES[drawn["mode"]], drawn["num_iter"]
        latents = []
        hook = case.joint.transformer.register_forward_hook(lambda *call, kept=latents: kept.append(call[-1]))
        conditioning = case.joint.seen(observation, None)
        if mode == "inverse":
            conditioning = case.joint.inferred(batch.future, observation, None)
        if mode == "forward":
            conditioning.actions, conditioning.actions_hidden = batch.actions, ~batch.action_mask
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
                video = case.joint.generate(conditioning, order, Drawn(case.rows, frames), steps)[:, -1]
                maps = video.transpose(-1, -2).reshape(expected["video_latent"].shape)
                scale = float(expected["video_latent"].float().abs().max())
                close(maps, expected["video_latent"], 1e-5 * scale)
                last = draws[(steps - 1) * per_step :]
            else:
                case.joint.transformer(conditioning)
        hook.remove()
        close(case.selected(latents[-1]), expected["z_last_selected"], 1e-4)
        stream = StaticStream(observation, layout, [Branch(1.0, latents[-1])])
        close(case.policy.action.sample(stream, Drawn(case.rows, last[:acting])), expected["action"], 2e-4)


def test_what_training_hides(cases: dict[str, Case], uva_case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases[uva_case]
    if not any(theirs.startswith("train:") for theirs in case.outputs["modes"]):
        pytest.skip("this case was not recorded in training")
    batch = case.batch(monkeypatch)
    used = 0
    for theirs, expected in case.outputs["modes"].items():
        if not theirs.startswith("train:"):
            continue
        drawn = case.draws["modes"][theirs]
        masked = drawn["mask_first_frame"].bool()
        monkeypatch.setattr(joint_module, "masked_cells", lambda rows, cells, minimum, masked=masked: masked)
        conditioning, _ = case.joint.practise(batch, [MODES[theirs.removeprefix("train:")]] * case.rows)
        draws = [draw for kind, draw in drawn["draws"] if kind == "rand"]
        if conditioning.past_hidden is not None:
            conditioning.past_hidden = draws.pop(0).float() > case.meta["action_mask_ratio"]
            used += 1
        if conditioning.text_hidden is not None:
            conditioning.text_hidden = draws.pop(0).float() < case.meta["label_drop_prob"]
            used += 1
        with torch.no_grad():
            close(case.selected(case.joint.transformer(conditioning)), expected["z_selected"], 1e-4)
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
