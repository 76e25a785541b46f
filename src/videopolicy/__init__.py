"""Video models as robot policies: a framework of swappable parts.

This module is the plugin author's whole API; `load` opens a trained policy, `evaluate` runs one, `run` does what a
recipe says, and `results` gives its episodes. What needs torch is imported on first use, so that reading a recipe or
listing plugins stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from videopolicy.components.fields import (
    AnyBackbone,
    AnyBenchmark,
    AnyDataset,
    AnyDecoder,
    AnyExtractor,
    AnyLearner,
    AnyPolicy,
    AnyText,
)
from videopolicy.components.hookspecs import hookimpl
from videopolicy.components.kinds import (
    BackboneComponent,
    BenchmarkComponent,
    Component,
    DatasetComponent,
    DecoderComponent,
    ExtractorComponent,
    ImporterComponent,
    LearnerComponent,
    MultiplierComponent,
    PolicyComponent,
    TextComponent,
    WhenActing,
)
from videopolicy.components.text import ClipText, WordText
from videopolicy.contracts.benchmark import (
    AssetPack,
    Assets,
    Checkout,
    DemonstrationRequest,
    PublishedNumber,
    Task,
    WorkerSpec,
)
from videopolicy.contracts.importer import Checkpoint, Imported
from videopolicy.errors import (
    DataError,
    HubError,
    PluginError,
    PolicyServerError,
    RecipeError,
    SimulationError,
    StorageError,
    VpolicyError,
    WeightsError,
    did_you_mean,
    listing,
)
from videopolicy.spaces import NO_ACTIONS, ActionSpace, Camera, DeclaredSpaces, Spaces, StateSpace
from videopolicy.types import (
    Batch,
    Branch,
    FeatureLayout,
    Observation,
    RowGenerator,
    Window,
    normal_noise,
    of_first_process,
    to_device,
    weighted_sum,
)

if TYPE_CHECKING:
    from videopolicy.console.progress import Reporter
    from videopolicy.contracts.backbone import Clip, Denoised, VideoBackbone
    from videopolicy.contracts.dataset import Dataset, Episode, EpisodeWriter, FieldStatistics, Statistics, Windows
    from videopolicy.contracts.decoder import ActionDecoder
    from videopolicy.contracts.extractor import CachesFeatures, FeatureExtractor, FeatureStream, StaticStream
    from videopolicy.contracts.latents import EncodedRun, EncodesFrames, LatentWriter
    from videopolicy.contracts.learner import Learner
    from videopolicy.contracts.measured import MeasuredPart, MeasuredParts
    from videopolicy.contracts.multiplier import Motion, Multiplier, Scene, Source
    from videopolicy.contracts.policy import InfersActions, Policy, PredictsVideo
    from videopolicy.contracts.text import EncodedText, FrozenTextEncoder, TextEncoder
    from videopolicy.deployment import DeployedPolicy, evaluate, load, results, run
    from videopolicy.importing.reading import read_checkpoint
    from videopolicy.views import stack_views, to_bytes

_LAZY = {
    "ActionDecoder": "contracts.decoder",
    "CachesFeatures": "contracts.extractor",
    "Dataset": "contracts.dataset",
    "Clip": "contracts.backbone",
    "Denoised": "contracts.backbone",
    "EncodedRun": "contracts.latents",
    "EncodedText": "contracts.text",
    "EncodesFrames": "contracts.latents",
    "Episode": "contracts.dataset",
    "EpisodeWriter": "contracts.dataset",
    "FeatureExtractor": "contracts.extractor",
    "FeatureStream": "contracts.extractor",
    "FieldStatistics": "contracts.dataset",
    "FrozenTextEncoder": "contracts.text",
    "InfersActions": "contracts.policy",
    "LatentWriter": "contracts.latents",
    "Learner": "contracts.learner",
    "MeasuredPart": "contracts.measured",
    "MeasuredParts": "contracts.measured",
    "Motion": "contracts.multiplier",
    "Multiplier": "contracts.multiplier",
    "Policy": "contracts.policy",
    "PredictsVideo": "contracts.policy",
    "Reporter": "console.progress",
    "Scene": "contracts.multiplier",
    "Source": "contracts.multiplier",
    "StaticStream": "contracts.extractor",
    "Statistics": "contracts.dataset",
    "TextEncoder": "contracts.text",
    "VideoBackbone": "contracts.backbone",
    "Windows": "contracts.dataset",
    "read_checkpoint": "importing.reading",
    "stack_views": "views",
    "to_bytes": "views",
}

"""What parts are made of, by the module that has it."""
_FOR_CALLERS = dict.fromkeys(("DeployedPolicy", "evaluate", "load", "results", "run"), "deployment")
"""What is for those who use trained policies; no part needs it."""


def __getattr__(name: str) -> Any:
    if module := (_LAZY | _FOR_CALLERS).get(name):
        return getattr(importlib.import_module(f"videopolicy.{module}"), name)
    raise AttributeError(f"module 'videopolicy' has no attribute '{name}'")


def __dir__() -> list[str]:
    """What is imported on first use is there, too."""
    return sorted({*globals(), *__all__})


__all__ = [
    "NO_ACTIONS",
    "ActionDecoder",
    "ActionSpace",
    "AnyBackbone",
    "AnyBenchmark",
    "AnyDataset",
    "AnyDecoder",
    "AnyExtractor",
    "AnyLearner",
    "AnyPolicy",
    "AnyText",
    "AssetPack",
    "Assets",
    "BackboneComponent",
    "Batch",
    "BenchmarkComponent",
    "Branch",
    "CachesFeatures",
    "Camera",
    "Checkout",
    "Checkpoint",
    "Clip",
    "ClipText",
    "Component",
    "DataError",
    "Dataset",
    "DatasetComponent",
    "DeclaredSpaces",
    "DecoderComponent",
    "DemonstrationRequest",
    "Denoised",
    "DeployedPolicy",
    "EncodedRun",
    "EncodedText",
    "EncodesFrames",
    "Episode",
    "EpisodeWriter",
    "ExtractorComponent",
    "FeatureExtractor",
    "FeatureLayout",
    "FeatureStream",
    "FieldStatistics",
    "FrozenTextEncoder",
    "HubError",
    "Imported",
    "ImporterComponent",
    "InfersActions",
    "LatentWriter",
    "Learner",
    "LearnerComponent",
    "MeasuredPart",
    "MeasuredParts",
    "Motion",
    "Multiplier",
    "MultiplierComponent",
    "Observation",
    "PluginError",
    "Policy",
    "PolicyComponent",
    "PolicyServerError",
    "PredictsVideo",
    "PublishedNumber",
    "RecipeError",
    "Reporter",
    "RowGenerator",
    "Scene",
    "SimulationError",
    "Source",
    "Spaces",
    "StateSpace",
    "StaticStream",
    "Statistics",
    "StorageError",
    "Task",
    "TextComponent",
    "TextEncoder",
    "VideoBackbone",
    "VpolicyError",
    "WeightsError",
    "WhenActing",
    "Window",
    "Windows",
    "WordText",
    "WorkerSpec",
    "did_you_mean",
    "evaluate",
    "hookimpl",
    "listing",
    "load",
    "normal_noise",
    "of_first_process",
    "read_checkpoint",
    "results",
    "run",
    "stack_views",
    "to_bytes",
    "to_device",
    "weighted_sum",
]
