"""What names and shapes of an official checkpoint say about its architecture, and the modules of these sizes.

Modules are built on the meta device: names and shapes, no memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from videopolicy import ActionSpace, Camera, Spaces, StateSpace, WeightsError, WordText
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.importing.names import count
from vpolicy_uva.options import KlLatent

State = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
Options = dict[str, Any]

# What all official configurations share and no shape shows.
STRIDE = 4
TEXT_TOKENS = 30
SCALING_FACTOR = 0.2325

ACTIONS, STATES = "diffactloss.", "diffproploss."
"""Names of the heads."""

_HEADS = {(768, 3): 6, (768, 6): 6, (768, 12): 12, (1024, 16): 16, (1280, 20): 16}
"""Attention heads of ``mar_tiny`` to ``mar_huge``, by width and depth."""
_OFFICIAL_ONLY = "Only variants of the official code can be imported."


@dataclass(frozen=True)
class Streams:
    """What the transformer is conditioned on, besides the first camera and the future actions.

    Args:
        second: Whether it sees a second camera; ``predicted``, whether it predicts the future of one.
        unused: Whether there is a layer for a second camera that nothing reads, as in UMI's files.
        past_actions, state: Whether it is conditioned on them.
    """

    second: bool
    predicted: bool
    unused: bool
    past_actions: bool
    state: bool

    @property
    def cameras(self) -> int:
        """How many the model needs."""
        return 2 if self.second or self.predicted else 1


def streams(state: State) -> Streams:
    """Which streams the weights below ``model.`` fuse.

    Raises:
        KeyError: A tensor that shows them is missing.
        WeightsError: They are none that our model has.
    """
    width, fused = state["proj_cond_x_layer.weight"].shape
    wrist, past = "z_proj_wrist.weight" in state, "history_action_proj_cond.weight" in state
    proprioception, looks = "proprioception_proj_cond.weight" in state, "proprioception_image_proj_cond.weight" in state
    least, found = 3 + wrist + past + proprioception, fused // width
    second = looks and found == least + 1
    if found != least + second:
        raise WeightsError(f"The weights fuse {found} streams, and have layers for {least}.", _OFFICIAL_ONLY)
    return Streams(second, wrist, looks and not second, past, proprioception)


def autoencoder_options(state: State, scaling_factor: float = SCALING_FACTOR) -> Options:
    """`uva-joint`'s ``latent`` of the same sizes.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    levels = count(r"encoder\.down\.(\d+)\.", state)
    return {
        "type": "kl",
        "channels": [state[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)],
        "layers": count(r"encoder\.down\.0\.block\.(\d+)\.", state),
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "scaling_factor": scaling_factor,
    }


def joint_options(state: State, latent: Options, heads: tuple[int, int] | None) -> Options:
    """`uva-joint`'s options of the same sizes.

    Args:
        state: The tensors below ``model.``.
        latent: Options of the autoencoder.
        heads: Attention heads of encoder and decoder; None for those of MAR's published sizes. Of other sizes they
            are not known, and not among the options.

    Raises:
        KeyError: A tensor that shows a size is missing.
        WeightsError: As for `streams`, or frames are not square.
    """
    found = streams(state)
    side = isqrt(cells := state["spatial_pos_embed"].shape[1])
    if side**2 != cells:
        raise WeightsError(f"The weights have frames of {cells} tokens, which are not square.", _OFFICIAL_ONLY)
    size, frames = side * 2 ** (len(latent["channels"]) - 1), state["temporal_pos_embed"].shape[1]
    options: Options = {
        "image_size": [size, size],
        "frames": frames,
        "stride": STRIDE,
        "history_stride": STRIDE,
        "past_actions": frames * STRIDE if found.past_actions else 0,
        "proprioception": found.state,
        "states": ("steps" if found.second else "frames") if found.state else None,
        "predict_proprioception": _state_options(state, frames) if f"{STATES}net.input_proj.weight" in state else None,
        "latent": latent,
        "text": None,
        "transformer": transformer_options(state, heads),
        "video": head_options(state, "diffloss.net.") if "diffloss.net.input_proj.weight" in state else None,
    }
    if "text_proj_cond.weight" in state:
        options["text_tokens"] = state["text_pos_embed"].shape[1]
        width = state["text_proj_cond.weight"].shape[1]
        options["text"] = {"type": "clip-text", "max_length": TEXT_TOKENS, "pooled_width": width}
    return options


def transformer_options(state: State, heads: tuple[int, int] | None) -> Options:
    """`uva-joint`'s ``transformer``.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    out, width = state["decoder_embed.weight"].shape
    depth, out_depth = (count(rf"{half}_blocks\.(\d+)\.", state) for half in ("encoder", "decoder"))
    shape: Options = {
        "width": width,
        "depth": depth,
        "decoder_width": None if out == width else out,
        "decoder_depth": None if out_depth == depth else out_depth,
        "mlp_ratio": state["encoder_blocks.0.mlp.fc1.weight"].shape[0] / width,
    }
    own, others = heads or (_HEADS.get((width, depth), 0), _HEADS.get((out, out_depth), 0))
    return shape | ({"heads": own, "decoder_heads": None if own == others else others} if own and others else {})


def head_options(state: State, prefix: str) -> Options:
    """Sizes of a diffusion head.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    depth = count(rf"{re.escape(prefix)}res_blocks\.(\d+)\.", state)
    return {"width": state[f"{prefix}input_proj.weight"].shape[0], "depth": depth}


def action_options(state: State, frames: int) -> Options:
    """`uva-action`'s options of the same sizes.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    aggregation, horizon = _aggregated(state, frames, ACTIONS)
    head = head_options(state, f"{ACTIONS}net.")
    return {"type": "uva-action", "horizon": horizon, "aggregation": aggregation, "head": head}


def _state_options(state: State, frames: int) -> Options:
    """`uva-joint`'s ``predict_proprioception``: the official code predicts the whole state, or the last part of it."""
    whole, part = state["proprioception_proj_cond.weight"].shape[1], state[f"{STATES}net.input_proj.weight"].shape[1]
    aggregation, _ = _aggregated(state, frames, STATES)
    return {
        "dimensions": None if part == whole else list(range(whole - part, whole)),
        "aggregation": aggregation,
        "head": head_options(state, f"{STATES}net."),
    }


def _aggregated(state: State, frames: int, prefix: str) -> tuple[str, int]:
    """The aggregation of a head, and how many vectors it gives.

    Raises:
        KeyError: A tensor that shows a size is missing.
    """
    inside = {name.removeprefix(prefix): tuple(value.shape) for name, value in state.items() if name.startswith(prefix)}
    if "interpolate.weight" in inside:
        return "conv_fc", inside["interpolate.weight"][0]
    if "conv_transpose3d.weight" in inside:
        return "conv_ori", frames * inside["conv_transpose3d.weight"][2]
    if "conv.0.weight" in inside:
        return "conv2", inside["conv.2.weight"][0]
    return "fc2", inside["fc.2.weight"][0]


def spaces(actions: int, state: int, cameras: int) -> Spaces:
    """Spaces of these dimensions, with nameless everything."""
    zeros = (0.0,) * actions
    return Spaces(
        cameras=tuple(Camera(name=f"view {n}", height=1, width=1) for n in range(cameras)),
        actions=ActionSpace(
            names=tuple(f"action {n}" for n in range(actions)), low=zeros, high=zeros, control="velocity", rate=1
        ),
        state=StateSpace(names=tuple(f"state {n}" for n in range(state))) if state else None,
    )


def twin(options: Options, dimensions: Spaces, predicts_second: bool, sees_second: bool = True) -> Shapes:
    """Names and shapes of the model that these options describe, but for its text component.

    Args:
        options: Of `uva` where there is an ``action`` among them, else its ``joint`` only; names are relative to that.
        dimensions: Cameras, actions and state.
        predicts_second, sees_second: Whether the future of a second camera is predicted, and whether its history is
            seen.

    Raises:
        WeightsError: The sizes do not go together.
    """
    first = (dimensions.cameras[0].name,)
    views = {"predicted_views": None if predicts_second else first, "seen_views": None if sees_second else first}
    joint = {**options["joint"], **views}
    if (text := joint["text"]) is not None:  # only the width of its vector matters
        joint["text"] = WordText(width=text["pooled_width"], words=1, buckets=1, layers=0)
    if "heads" not in joint["transformer"]:
        joint["transformer"] = {**joint["transformer"], "heads": 1}
    try:
        component: Uva | UvaJoint = UvaJoint.model_validate(joint)
        if "action" in options:
            action = UvaAction.model_validate(options["action"])
            component = Uva(joint=component, action=action, modes=("policy",))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise WeightsError(f"The sizes of the weights do not go together: {problems}.", _OFFICIAL_ONLY) from None
    with torch.device("meta"):
        module = component.build(dimensions)
    return {name: shape for name, shape in shapes(module).items() if not name.startswith(("text.", "joint.text."))}


def shapes(module: nn.Module) -> Shapes:
    """Of everything that a module stores."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def autoencoder_twin(options: Options) -> Any:
    """diffusers' autoencoder of these sizes, without memory."""
    from vpolicy_uva.latents import KlAutoencoder

    with torch.device("meta"):
        return KlAutoencoder(KlLatent.model_validate(options)).vae
