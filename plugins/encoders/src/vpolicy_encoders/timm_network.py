"""Networks of timm."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from videopolicy import RecipeError, did_you_mean, listing
from videopolicy.parts.weights import explain_loading, without_loading
from vpolicy_encoders.fitting import ensure_fit, published
from vpolicy_encoders.options import TIMM_FILES, Timm

_RECONSTRUCTING = ("decoder_", "mask_token")
"""How the names of a masked autoencoder's other half begin (``vit.py`` of VC-1 leaves out the same)."""


class TimmEncoder(nn.Module):
    """See `vpolicy_encoders.options.Timm`.

    Raises:
        RecipeError: timm has no such network, or its tokens are not those that the recipe declares.
        WeightsError: The weights are unreachable, or of another network.
    """

    model: Any  # timm's networks have no common class that says what they can do

    def __init__(self, options: Timm) -> None:
        super().__init__()
        self.model = _loaded(options)
        # What pools the tokens has no part in them.
        self.model.reset_classifier(0, "")
        self.mean: tuple[float, ...] = self.model.pretrained_cfg["mean"]
        self.deviation: tuple[float, ...] = self.model.pretrained_cfg["std"]
        self.prefix: int = getattr(self.model, "num_prefix_tokens", 0)
        self.channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        stages = getattr(self.model, "feature_info", None)
        found = (self.model.num_features, stages[-1]["reduction"] if isinstance(stages, list) else options.stride)
        if found != (options.dim, options.stride):
            raise RecipeError(
                f"{options.model} has tokens of width {found[0]}, one for {found[1]} pixels; the recipe says "
                f"{options.dim} and {options.stride}.",
                f"Set dim: {found[0]} and stride: {found[1]}.",
            )

    def forward(self, pixels: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, n, D)``."""
        features: Tensor = self.model.forward_features(pixels)
        if features.ndim == 3:
            return features[:, self.prefix :]
        return features.flatten(1, 2) if self.channels_last else features.flatten(2).transpose(1, 2)


def _loaded(options: Timm) -> Any:
    _ensure_known(options.model)
    file = None if without_loading() else options.file()
    if file is None:
        return _created(options)
    state = published(file)
    if any(name.startswith("decoder_") for name in state):
        state = {name: value for name, value in state.items() if not name.startswith(_RECONSTRUCTING)}
    with torch.device("meta"):
        like = _created(options)
    classifiers = like.pretrained_cfg.get("classifier") or ()
    heads = (classifiers,) if isinstance(classifiers, str) else classifiers
    state = {name: value for name, value in state.items() if name.rpartition(".")[0] not in heads}
    patches = like.pretrained_cfg.get("first_conv")
    first = f"{patches}.weight" if isinstance(patches, str) else ""
    ensure_fit(file, f"timm's {options.model}", like.state_dict(), state, first, options.positions)
    with explain_loading(file, f"timm's {options.model}", TIMM_FILES):
        # timm's own way in renames what some networks' authors call otherwise. Without a classifier it is strict.
        model = _created(options, pretrained=True, pretrained_cfg_overlay={"state_dict": state, "classifier": None})
    model.pretrained_cfg.pop("state_dict", None)
    return model


def _ensure_known(model: str) -> None:
    architecture = model.partition(".")[0]
    if not timm.is_model(model):
        hint = f"Names are listed by timm.list_models().{did_you_mean(architecture, timm.list_models())}"
        raise RecipeError(f"timm has no model '{model}'.", hint)
    try:
        timm.get_pretrained_cfg(model)
    except RuntimeError:
        tags = timm.list_pretrained(f"{architecture}.*")
        raise RecipeError(f"timm has no weights '{model}'.", f"There are {listing(tags)}.") from None


def _created(options: Timm, **arguments: Any) -> Any:
    """The network without a classifier, for images of the size that the options say."""
    config = timm.get_pretrained_cfg(options.model)
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = options.image_size
    try:
        return timm.create_model(options.model, num_classes=0, **arguments, **options.arguments)
    except TypeError as error:
        raise RecipeError(
            f"timm cannot make {options.model} with arguments {options.arguments}: {error}",
            "Correct `arguments`, which go to timm.create_model.",
        ) from error
