"""A whole checkpoint of Video Policy, or of the Stable Video Diffusion that it begins with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from videopolicy import Checkpoint, Imported, WeightsError
from videopolicy.parts.weights import beginnings
from vpolicy_video_policy.importing import names, sizes

UNET, VAE, CONDITION = "model.diffusion_model.", "first_stage_model.", "conditioner.embedders.3.encoder."
ADAPTER, ACTIONS = f"{UNET}vision_encoder.", f"{UNET}pose_pred_net."
FAMILIES = (ADAPTER, ACTIONS, UNET, VAE, CONDITION)  # those inside others first

DEAD = {
    "conditioner.embedders.0.": "CLIP, which the recipe's text component loads by itself",
    f"{CONDITION}decoder.": "the decoding half of the condition's autoencoder, which nothing runs",
    f"{CONDITION}post_quant_conv.": "the decoding half of the condition's autoencoder, which nothing runs",
    "model_ema.": "moving averages, which the official evaluation does not use",
}

TEXT = (
    "CLIP's text encoder: the recipe's clip-text component loads it from its own `weights`; "
    "`vpolicy import openclip-text` makes that folder."
)
CAMERAS = (
    "The order of the cameras: the official one is eye in hand, left, right, and the benchmark must name its cameras "
    "in the order in which the policy was trained."
)


@dataclass
class _Report:
    """Names that do not fit, as they stand in the checkpoint."""

    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def renamed(self, prefix: str, state: dict[str, Tensor], ours: dict[str, str]) -> dict[str, Tensor]:
        """The tensors under our names; a name that is not mapped is unexpected."""
        self.unexpected += [prefix + name for name in state if name not in ours]
        return {ours[name]: value for name, value in state.items() if name in ours}

    def compare(self, what: str, found: dict[str, Tensor], twin: Iterable[str]) -> None:
        """Compare with the names that a module of the same sizes has."""
        own = set(twin)
        self.missing += sorted(f"{what}: {name}" for name in own - found.keys())
        self.unexpected += sorted(f"{what}: {name}" for name in found.keys() - own)


def convert(checkpoint: Checkpoint, tolerance: float) -> Imported:
    """See `vpolicy_video_policy.importing.VideoPolicyImporter`.

    Raises:
        WeightsError: There is no video model in the checkpoint.
    """
    dropped: dict[str, str] = {}
    families: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in FAMILIES}
    report = _Report()
    state = checkpoint.state
    for name, value in state.items():
        if reason := next((reason for prefix, reason in DEAD.items() if name.startswith(prefix)), None):
            dropped[name] = reason
        elif prefix := next((prefix for prefix in FAMILIES if name.startswith(prefix)), None):
            families[prefix][name.removeprefix(prefix)] = value
        else:
            report.unexpected.append(name)
    if not families[UNET]:
        raise WeightsError(
            f"{checkpoint.path} holds no video model: no name in it begins with {UNET} (they begin with "
            f"{beginnings(state)}).",
            "Name a checkpoint of Video Policy, or svd_xt.safetensors.",
        )
    whole = bool(families[ADAPTER] or families[ACTIONS])
    root = "extractor.backbone." if whole else ""
    options: dict[str, Any] = {"unet.norm_epsilon": "sgm", "latent.type": "vae"}
    parts = {"video model": _video_model(families[UNET], report, options)}
    parts |= _autoencoders(families, report, options, tolerance)
    parts = {name: _under(f"{root}{_HOMES[name]}", tensors) for name, tensors in parts.items()}
    if whole:
        parts["adapter"] = _under("extractor.adapter.", _adapter(families[ADAPTER], report))
        parts["action network"] = _under("decoder.network.", _actions(families[ACTIONS], report))
    return Imported(
        parts,
        target="policy" if whole else "policy.extractor.backbone",
        dropped=dropped,
        unexpected=report.unexpected,
        missing=report.missing,
        left_out=(f"{root}text.",),
        not_carried=[TEXT, CAMERAS] if whole else [TEXT],
        options={f"{root}{path}": value for path, value in options.items()},
    )


_HOMES = {
    "video model": "unet.",
    "autoencoder": "latent.vae.",
    "condition encoder": "latent.condition_vae.",
}


def _under(place: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {place + name: value for name, value in state.items()}


def _video_model(state: dict[str, Tensor], report: _Report, options: dict[str, Any]) -> dict[str, Tensor]:
    found = report.renamed(UNET, state, names.unet_names(state))
    try:
        twin, shape = sizes.unet_twin(state)
    except KeyError as error:
        report.missing.append(UNET + str(error.args[0]))
        return found
    report.compare("video model", found, twin)
    options |= {f"unet.{name}": value for name, value in shape.items()}
    return found


def _autoencoders(
    families: dict[str, dict[str, Tensor]], report: _Report, options: dict[str, Any], tolerance: float
) -> dict[str, dict[str, Tensor]]:
    """The autoencoder, and the encoder of the condition where it is another one."""
    own = _autoencoder(VAE, families[VAE], report)
    if "encoder.conv_out.weight" not in own:
        report.missing.append(f"{VAE}encoder.conv_out.weight")
        return {"autoencoder": own}
    if "quant_conv.weight" not in own:  # the official one has none; diffusers' has, so it must do nothing
        channels = own["encoder.conv_out.weight"].shape[0]
        identity = torch.eye(channels, dtype=own["encoder.conv_out.weight"].dtype)
        own |= {"quant_conv.weight": identity[..., None, None], "quant_conv.bias": torch.zeros_like(identity[0])}
    try:
        twin, shape = sizes.vae_twin(families[VAE])
    except KeyError as error:
        report.missing.append(VAE + str(error.args[0]))
        return {"autoencoder": own}
    report.compare("autoencoder", own, twin)
    options |= {f"latent.{name}": value for name, value in shape.items()}
    condition = _autoencoder(CONDITION, families[CONDITION], report)
    encoding = {name for name in twin if not name.startswith("decoder.")}
    report.compare("condition encoder", condition, encoding)
    same = encoding <= condition.keys() & own.keys() and same_encoder(own, condition, tolerance)
    options["latent.condition_encoder"] = "shared" if same else "own"
    return {"autoencoder": own} if same else {"autoencoder": own, "condition encoder": condition}


def _autoencoder(prefix: str, state: dict[str, Tensor], report: _Report) -> dict[str, Tensor]:
    found = report.renamed(prefix, state, names.vae_names(state))
    # The official attention's maps are convolutions with 1 x 1 kernels, diffusers' are linear.
    return {
        name: value[:, :, 0, 0] if ".attentions." in name and value.ndim == 4 else value
        for name, value in found.items()
    }


def same_encoder(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> bool:
    """Whether two encoders give the same latents: all layers equal, and the two linear ones at the end as one map."""
    last = ("encoder.conv_out.weight", "encoder.conv_out.bias")
    layers = [name for name in one if name.startswith("encoder.") and name not in last]
    pairs = [(one[name], other[name]) for name in layers] + list(zip(_end(one), _end(other), strict=True))
    return all(a.shape == b.shape and bool(((a - b).abs() <= tolerance).all()) for a, b in pairs)


def _end(state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of the last convolution and the 1 x 1 convolution behind it, as one convolution."""
    weight, bias = state["encoder.conv_out.weight"], state["encoder.conv_out.bias"]
    mix = state["quant_conv.weight"][:, :, 0, 0]
    return torch.einsum("oi,ichw->ochw", mix, weight), mix @ bias + state["quant_conv.bias"]


def _adapter(state: dict[str, Tensor], report: _Report) -> dict[str, Tensor]:
    report.missing += [ADAPTER + name for name in sizes.adapter_gaps(state)]
    return report.renamed(ADAPTER, state, names.adapter_names(state))


def _actions(state: dict[str, Tensor], report: _Report) -> dict[str, Tensor]:
    try:
        report.compare("action network", state, sizes.actions_twin(state))
    except KeyError as error:
        report.missing.append(ACTIONS + str(error.args[0]))
    return report.renamed(ACTIONS, state, names.action_unet_names(state))
