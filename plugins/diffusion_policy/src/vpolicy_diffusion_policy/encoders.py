"""Networks that turn an image into a feature map."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from videopolicy import RecipeError
from videopolicy.parts.weights import explain_loading, without_loading
from vpolicy_diffusion_policy.options import WEIGHTS, ResNet, Timm


class ResNetEncoder(nn.Module):
    """See `vpolicy_diffusion_policy.options.ResNet`. Parameters have torchvision's names."""

    def __init__(self, options: ResNet) -> None:
        super().__init__()
        norm = partial(_group_norm, group_channels=options.group_channels)
        width = options.channels[0]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for index, (blocks, channels, stride) in enumerate(
            zip(options.layers, options.channels, options.strides, strict=True), start=1
        ):
            first = _block(width, channels, stride, norm)
            rest = [BasicBlock(channels, channels, norm_layer=norm) for _ in range(blocks - 1)]
            self.add_module(f"layer{index}", nn.Sequential(first, *rest))
            width = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, C, h, w)``."""
        for module in self.children():
            images = module(images)
        return images


def _group_norm(channels: int, group_channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // group_channels, channels)


def _block(channels: int, width: int, stride: int, norm: partial[nn.GroupNorm]) -> BasicBlock:
    shortcut = None
    if stride != 1 or channels != width:
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), norm(width))
    return BasicBlock(channels, width, stride, shortcut, norm_layer=norm)


class TimmEncoder(nn.Module):
    """See `vpolicy_diffusion_policy.options.Timm`.

    Args:
        options: Of the encoder.
        size: Height and width of the images.
        tokens: Whether the tokens of a vision transformer are wanted as they are, the class token first.

    Raises:
        RecipeError: timm has no such model, or its features are not those that the recipe declares.
        WeightsError: The weights are unreachable or of another model.
    """

    model: Any  # timm's networks have no common class that says what they can do

    def __init__(self, options: Timm, size: tuple[int, int], tokens: bool) -> None:
        super().__init__()
        self.tokens, self.grid = tokens, options.grid(size)
        self.model = _timm_model(options, size)
        width = self.model.num_features
        if width != options.dim:
            raise RecipeError(
                f"{options.model} has features of width {width}, not {options.dim}.", f"Set dim: {width}."
            )
        self.prefix = getattr(self.model, "num_prefix_tokens", None)
        if tokens and not self.prefix:
            raise RecipeError(f"{options.model} has no class token.", "Use pool attention or average.")
        if options.group_norm:
            _replace_batch_norm(self.model)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, C, h, w)``, or to the class token ``(N, C, 1, 1)``."""
        features: Tensor = self.model.forward_features(images)
        if self.tokens:
            return features[:, 0, :, None, None]
        if self.prefix is not None:
            features = features[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return features


def _timm_model(options: Timm, size: tuple[int, int]) -> Any:
    if not timm.is_model(options.model):
        near = timm.list_models(f"*{options.model.split('.')[0]}*", pretrained=True)[:3]
        raise RecipeError(
            f"timm has no model '{options.model}'.", f"Names are listed by timm.list_models(); near: {', '.join(near)}."
        )
    arguments: dict[str, object] = {"num_classes": 0, "global_pool": ""}
    if timm.get_pretrained_cfg(options.model).fixed_input_size:
        arguments["img_size"] = size
    folder = None if without_loading() else options.folder()
    if folder is None:
        return timm.create_model(options.model, **arguments)
    with explain_loading(folder, f"timm's {options.model}", [WEIGHTS]):
        place = {"file": str(folder / WEIGHTS)}
        return timm.create_model(options.model, pretrained=True, pretrained_cfg_overlay=place, **arguments)


def _replace_batch_norm(model: nn.Module) -> None:
    """Groups of 16 channels, or of 8 where these do not divide them."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            channels = module.num_features
            parent, _, leaf = name.rpartition(".")
            norm = nn.GroupNorm(channels // (16 if channels % 16 == 0 else 8), channels)
            # timm's normalisations bring their activation along.
            activation = getattr(module, "act", nn.Identity())
            replacement = norm if isinstance(activation, nn.Identity) else nn.Sequential(norm, activation)
            setattr(model.get_submodule(parent), leaf, replacement)
