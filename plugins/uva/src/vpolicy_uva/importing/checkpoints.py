"""A whole checkpoint of UVA, of the first or the second stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from videopolicy import Checkpoint, Imported, WeightsError
from videopolicy.parts.weights import beginnings
from vpolicy_uva.importing import names, sizes
from vpolicy_uva.importing.scaling import PREFIX, Scaling, read_scaling

MODEL, VAE, NORMALIZER = "model.", "vae_model.", PREFIX
FAMILIES = (MODEL, VAE, NORMALIZER)

DEAD = {
    "text_model.": "CLIP, which the recipe's text component loads by itself",
    "_dummy_variable": "an empty tensor, which the official code asks for its device",
}
UNUSED = "a layer for a second camera, which UMI's models have and do not use"
ENTRIES = {
    "cfg": "the configuration, which is pickled as objects of omegaconf",
    "pickles": "counters of training",
    "optimizer": "the state of training",
    "lr_scheduler": "the state of training",
}

TEXT = "CLIP's text encoder: the recipe's clip-text component loads it from its own `weights`."
SPACES = (
    "What the {actions} dimensions of actions{state} mean: the benchmark must have them in the order in which the "
    "policy was trained. Official actions of 10 are the position, the first two rows of the rotation matrix and the "
    "gripper."
)
UNSCALED = (
    "Names of the dimensions of actions that are left as they are ({dimensions}): a recipe that trains on lists them "
    "as `normalization.unscaled`."
)
HEADS = (
    "The numbers of attention heads, which no shape shows: import with heads=[ENCODER,DECODER] to have them checked."
)
FIRST_ONLY = "The cameras' names: `{option}` must name the first of the two, the one of the scene."
STATES = (
    "Where states are read, which no shape shows: {here}, as the official configuration has it. Of weights that were "
    "trained otherwise set `states: {other}`."
)
_AT = {"steps": "at every step of the history", "frames": "at the history's frames"}
ORDER = "The cameras' names: the benchmark must name the one of the scene first and the one at the wrist second."


@dataclass
class Report:
    """Names that do not fit, as they stand in the checkpoint or, where they are compared with ours, as ours."""

    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def renamed(self, prefix: str, state: Mapping[str, Tensor], ours: dict[str, str]) -> dict[str, Tensor]:
        """The tensors under our names; a name that is not mapped is unexpected."""
        self.unexpected += [prefix + name for name in state if name not in ours]
        return {ours[name]: value for name, value in state.items() if name in ours}

    def compare(self, found: Mapping[str, Tensor], own: sizes.Shapes) -> None:
        """Compare names and shapes under our names with those of a module of the same sizes."""
        self.missing += sorted(own.keys() - found.keys())
        self.unexpected += sorted(found.keys() - own.keys())
        for name in sorted(own.keys() & found.keys()):
            if (shape := tuple(found[name].shape)) != own[name]:
                self.unexpected.append(f"{name} of shape {shape} instead of {own[name]}")


def convert(checkpoint: Checkpoint, which: str, heads: tuple[int, int] | None) -> Imported:
    """See `vpolicy_uva.importing.UvaImporter`.

    Raises:
        WeightsError: There is no model of UVA in the checkpoint, or one that ours cannot be.
    """
    chosen, dropped = _chosen(checkpoint, which)
    families: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in FAMILIES}
    report = Report()
    for name, value in chosen.items():
        if reason := next((reason for prefix, reason in DEAD.items() if name.startswith(prefix)), None):
            dropped[name] = reason
        elif prefix := next((prefix for prefix in FAMILIES if name.startswith(prefix)), None):
            families[prefix][name.removeprefix(prefix)] = value
        else:
            report.unexpected.append(name)
    if not families[MODEL]:
        raise WeightsError(
            f"{checkpoint.path} holds no model of UVA: no name in it begins with {MODEL} (they begin with "
            f"{beginnings(chosen)}).",
            "Name a checkpoint of UVA.",
        )
    try:
        return _converted(families, heads, dropped, report)
    except KeyError as error:
        raise WeightsError(
            f"{checkpoint.path} lacks {error.args[0]}, by which the variant is known.",
            "Name a checkpoint of UVA; its training must have saved the whole policy.",
        ) from None


def _chosen(checkpoint: Checkpoint, which: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights that were asked for, and what else the file holds."""
    entry = "ema_model" if which == "ema" else "model"
    content: Any = checkpoint.content
    held = content.get("state_dicts") if isinstance(content, Mapping) else None
    if isinstance(held, Mapping) and entry not in held and {"model", "ema_model"} & held.keys():
        other = "model" if which == "ema" else "ema"
        raise WeightsError(f"{checkpoint.path} has no weights '{entry}'.", f"Take the others: weights={other}.")
    state = checkpoint.tensors("state_dicts", entry)
    twice = {"model": "weights without averaging", "ema_model": "moving averages of the weights"}
    known = ENTRIES | {name: reason for name, reason in twice.items() if name != entry}
    present = [*content, *content["state_dicts"]]
    return state, {name: reason for name, reason in known.items() if name in present}


def _converted(
    families: dict[str, dict[str, Tensor]], heads: tuple[int, int] | None, dropped: dict[str, str], report: Report
) -> Imported:
    model, latent = families[MODEL], sizes.autoencoder_options(families[VAE])
    streams = sizes.streams(model)
    if streams.unused:
        unused = [name for name in model if name.startswith("proprioception_image_proj_cond.")]
        dropped |= {MODEL + name: UNUSED for name in unused}
        model = {name: value for name, value in model.items() if name not in unused}
    joint = sizes.joint_options(model, latent, heads)
    options: dict[str, Any] = {"joint": joint}
    if whole := any(name.startswith("diffactloss.") for name in model):
        options["action"] = sizes.action_options(model, joint["frames"])
        if (horizon := options["action"]["horizon"]) != joint["frames"] * joint["stride"]:
            joint["horizon"] = horizon
    actions = model["action_proj_cond.weight"].shape[1]
    state = model["proprioception_proj_cond.weight"].shape[1] if streams.state else 0
    seen = streams.second or not streams.predicted
    own = sizes.twin(options, sizes.spaces(actions, state, streams.cameras), streams.predicted, seen)
    scaled = read_scaling(families[NORMALIZER], actions, state)

    predicted = joint["predict_proprioception"]
    aggregation = options["action"]["aggregation"] if whole else predicted and predicted["aggregation"]
    tensors = report.renamed(MODEL, model, names.model_names(model, aggregation))
    autoencoder = autoencoder_tensors(families[VAE], report, VAE)
    tensors |= {f"joint.latent.vae.{name}": value for name, value in autoencoder.items()}
    if not whole:
        tensors = {name.removeprefix("joint."): value for name, value in tensors.items()}
    report.compare(tensors, own)
    root = "joint." if whole else ""
    if not streams.second or streams.predicted:
        joint["predicted_views"] = None
    if seen:
        joint["seen_views"] = None
    return Imported(
        _parts(tensors, root),
        target="policy" if whole else "policy.joint",
        dropped=dropped | scaled.dropped,
        unexpected=report.unexpected + scaled.unexpected,
        missing=report.missing + scaled.missing,
        left_out=(f"{root}text.",) if joint["text"] else (),
        not_carried=_not_carried(joint, streams, actions, state, scaled),
        options=_flat(options if whole else joint),
        statistics=scaled.statistics,
        normalization=scaled.modes,
    )


def autoencoder_tensors(state: Mapping[str, Tensor], report: Report, prefix: str = "") -> dict[str, Tensor]:
    """The official autoencoder's tensors under diffusers' names."""
    found = report.renamed(prefix, state, names.autoencoder_names(state))
    # The official attention's maps are convolutions with 1 x 1 kernels, diffusers' are linear.
    return {
        name: value[:, :, 0, 0] if ".attentions." in name and value.ndim == 4 else value
        for name, value in found.items()
    }


def _parts(tensors: dict[str, Tensor], root: str) -> dict[str, dict[str, Tensor]]:
    homes = {
        "transformer": f"{root}transformer.",
        "video heads": f"{root}video_heads.",
        "action head": "action.",
        "state head": f"{root}state_prediction.",
        "autoencoder": f"{root}latent.",
    }
    parts = {
        part: {name: value for name, value in tensors.items() if name.startswith(home)} for part, home in homes.items()
    }
    return {part: held for part, held in parts.items() if held}


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options by their dotted path."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        inside = _flat(value) if isinstance(value, Mapping) else None
        flat |= {name: value} if inside is None else {f"{name}.{path}": one for path, one in inside.items()}
    return flat


def _not_carried(
    joint: Mapping[str, Any], streams: sizes.Streams, actions: int, state: int, scaled: Scaling
) -> list[str]:
    said = [SPACES.format(actions=actions, state=f" and the {state} of the state" if state else "")]
    if scaled.unscaled:
        said.append(UNSCALED.format(dimensions=_runs(scaled.unscaled)))
    if streams.second:
        said.append(ORDER if streams.predicted else FIRST_ONLY.format(option="predicted_views"))
    elif streams.predicted:
        said.append(FIRST_ONLY.format(option="seen_views"))
    if at := joint["states"]:
        said.append(STATES.format(here=_AT[at], other="frames" if at == "steps" else "steps"))
    if joint["text"]:
        said.append(TEXT)
    if "heads" not in joint["transformer"]:
        said.append(HEADS)
    return said


def _runs(numbers: list[int]) -> str:
    """Rising numbers, such as ``0 and 3 to 9``."""
    first = [number for number in numbers if number - 1 not in numbers]
    last = [number for number in numbers if number + 1 not in numbers]
    return " and ".join(f"{a} to {b}" if a < b else str(a) for a, b in zip(first, last, strict=True))
