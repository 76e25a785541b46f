"""Which modules of a policy are parts of their own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from videopolicy.contracts.backbone import VideoBackbone
from videopolicy.contracts.decoder import ActionDecoder
from videopolicy.contracts.extractor import FeatureExtractor
from videopolicy.contracts.measured import MeasuredPart, MeasuredParts
from videopolicy.contracts.policy import Policy
from videopolicy.contracts.text import TextEncoder


def is_part(module: nn.Module) -> bool:
    """Whether a module fulfils one of the contracts or declares to be a part."""
    contracts = (TextEncoder, VideoBackbone, FeatureExtractor, ActionDecoder, Policy)
    return isinstance(module, contracts) or bool(declared_parts(module))


def declared_parts(module: nn.Module) -> Mapping[str, MeasuredPart]:
    """Which of a module's methods are which part, by its own word."""
    return module.measured_parts if isinstance(module, MeasuredParts) else {}
