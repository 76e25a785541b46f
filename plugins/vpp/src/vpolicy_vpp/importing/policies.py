"""A checkpoint of an action model: Video Former and diffusion transformer (``VPP_policy.py`` and its like)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from videopolicy import Checkpoint, FieldStatistics, Imported, Statistics, WeightsError, listing
from videopolicy.parts.weights import beginnings
from vpolicy_vpp.importing import sizes

FORMER, NETWORK = "Video_Former.", "model.inner_model."
CLIP = "openai/clip-vit-base-patch32"
GOAL_ENCODER = "language_goal."

_SAME = f"which nothing has trained: the recipe's clip-text loads the same from {CLIP}"
DEAD = {
    f"{GOAL_ENCODER}clip_rn50.visual.": "CLIP's image tower, which nothing reads",
    GOAL_ENCODER: f"the goal's CLIP, {_SAME}",
    "TVP_encoder.text_encoder.": f"the video model's CLIP, {_SAME}",
    "text_encoder.": f"the video model's CLIP, {_SAME}",
    f"{NETWORK}pos_emb": "positions, which the official network has and never adds",
    f"{NETWORK}goal_emb.": "a reader of goals beside the one that reads sentences, which nothing calls",
}
STATE = f"{NETWORK}proprio_emb."
STATE_UNUSED = "a reader of the robot's state, which CALVIN's policy is never given"
ENTRIES = {
    "args": "the configuration, which is pickled as objects of omegaconf",
    "ema": "moving averages, which the official evaluation does not read",
    "opt": "the state of training",
}

VIDEO = (
    "The video model, which has files of its own: the recipe's svd component loads it from its `weights`; `vpolicy "
    "import vpp` makes that folder and keeps position_encode, which must be {positions}."
)
CAMERAS = (
    "Which cameras are seen and at what size, which no tensor shows: CALVIN's policy sees rgb_static and rgb_gripper, "
    "in either order, each resized to 256 pixels."
)
SCALED = (
    "How actions are scaled: the official code of this robot subtracts the present state and maps the 1st and the 99th "
    "percentile of its data to -1 and 1, and the file has neither."
)
TAPS = (
    "Which feature maps of the video model are read: together they have {channels} channels, as those of no official "
    "configuration; import with taps=[NAME,...] to have them checked."
)


def file_in(folder: Path) -> Path:
    """The one checkpoint in a released folder.

    Raises:
        WeightsError: There is none, or more than one.
    """
    found = sorted({*folder.glob("saved_models/*.pt"), *folder.glob("*.pt")})
    if len(found) == 1:
        return found[0]
    if found:
        names = listing(str(file.relative_to(folder)) for file in found)
        raise WeightsError(f"{folder} holds {len(found)} checkpoints: {names}.", "Name one of these files.")
    there = listing((entry.name for entry in folder.iterdir()), 6)
    raise WeightsError(
        f"{folder} holds neither an action model (saved_models/*.pt) nor a video model (unet/ and vae/); there are "
        f"{there}.",
        "Name the folder as it was downloaded, such as that of `hf download yjguo/dp-calvin --local-dir FOLDER`.",
    )


def convert(
    checkpoint: Checkpoint, position_encode: bool | None, taps: tuple[str, ...] | None, heads: int | None
) -> Imported:
    """See `vpolicy_vpp.importing.VppImporter`.

    Raises:
        WeightsError: There is no action model in the checkpoint, or one that ours cannot be.
    """
    state = checkpoint.tensors("model")
    calvin = any(name.startswith(GOAL_ENCODER) for name in state)  # the other class has CLIP from elsewhere
    dead = DEAD | ({STATE: STATE_UNUSED} if calvin else {})
    families: dict[str, dict[str, Tensor]] = {FORMER: {}, NETWORK: {}}
    beside = {name: held for name, held in checkpoint.content.items() if name != "model"}
    dropped = {name: ENTRIES[name] for name in beside if name in ENTRIES}
    unexpected = [name for name, held in beside.items() if name not in ENTRIES and isinstance(held, (Mapping, Tensor))]
    for name, value in state.items():
        if reason := next((reason for prefix, reason in dead.items() if name.startswith(prefix)), None):
            dropped[name] = reason
        elif prefix := next((prefix for prefix in families if name.startswith(prefix)), None):
            families[prefix][name.removeprefix(prefix)] = value
        else:
            unexpected.append(name)
    if not families[FORMER] or not families[NETWORK]:
        raise WeightsError(
            f"{checkpoint.path} holds no action model of VPP: there is no name in it that begins with "
            f"{NETWORK if families[FORMER] else FORMER} (they begin with {beginnings(state)}).",
            "Name a checkpoint of VPP's second stage, such as the file of yjguo/dp-calvin.",
        )
    positions = state.get(f"{NETWORK}pos_emb")
    try:
        former = sizes.former_options(families[FORMER], heads)
        network = sizes.network_options(families[NETWORK], positions, former.tokens)
    except KeyError as error:
        raise WeightsError(
            f"{checkpoint.path} lacks {error.args[0]}, by which sizes are known.",
            "Name a checkpoint of VPP that holds the whole action model.",
        ) from None
    encoded = position_encode if position_encode is not None else not calvin
    report = sizes.Report(unexpected)
    report.compare(FORMER, families[FORMER], former.shapes())
    report.compare(NETWORK, families[NETWORK], network.shapes(former.dim, with_state=not calvin))
    taps = taps or sizes.TAPS.get(former.channels)
    imported = Imported(
        {
            "former": {f"extractor.former.{name}": value for name, value in families[FORMER].items()},
            "diffusion transformer": {f"decoder.network.{name}": value for name, value in families[NETWORK].items()},
        },
        dropped=dropped,
        unexpected=report.unexpected,
        missing=report.missing,
        left_out=("extractor.backbone.", "decoder.text."),
        not_carried=[VIDEO.format(positions=str(encoded).lower()), CAMERAS if calvin else SCALED],
        options=_options(former, network, taps, encoded, calvin),
    )
    if taps is None:
        imported.not_carried.append(TAPS.format(channels=former.channels))
    if calvin:  # actions are used as the network gives them (``calvin_evaluate.py``)
        width = network.actions
        imported.statistics = Statistics(
            FieldStatistics([-1.0] * width, [1.0] * width, [0.0] * width, [1.0] * width), None
        )
        imported.normalization = {"actions": "identity"}
    return imported


def _options(
    former: sizes.Former, network: sizes.Network, taps: tuple[str, ...] | None, positions: bool, calvin: bool
) -> dict[str, Any]:
    """What a recipe must say of the policy: sizes, and what no shape shows."""
    extractor: dict[str, Any] = {
        "type": "one-step",
        **({"taps": list(taps)} if taps else {}),
        "resize": "nearest",
        "denoising_steps": 1,
        "frozen": True,
        "pool": None,
        "former": {**former.options(), "input_norm": "none"},
        "backbone": {
            "type": "svd",
            "frames": former.frames,
            "views": "independent",
            "text": {"type": "clip-text", "max_length": 20},
            "text_tokens": "all",
            "double_text": True,
            "position_encode": positions,
            "unet": {"norm_epsilon": "diffusers"},
            "reading": {"fps": 4, "motion_bucket": 127, "noise_augmentation": 0},
            "level_max": 700,
        },
    }
    decoder: dict[str, Any] = {
        "type": "dit-diffusion",
        **network.options(),
        "text": {"type": "clip-text", "max_length": 77, "pooled_width": network.goal},
        "proprioception": not calvin,
        "causal_self_attention": True,
        "causal_cross_attention": True,
        "action_positions": False,
        "adaptive_norm": "vpp",
        "sigma_data": 0.5,
    }
    if calvin:  # ``calvin_evaluate_all.yaml``
        decoder["sampling_levels"] = {"schedule": "exponential", "steps": 10, "lowest": 1.0, "highest": 80}
    return _flat({"extractor": extractor, "decoder": decoder})


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options by their dotted path."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        inside = _flat(value) if isinstance(value, Mapping) else None
        flat |= {name: value} if inside is None else {f"{name}.{path}": one for path, one in inside.items()}
    return flat
