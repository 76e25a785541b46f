"""The conformance kit: what every part promises, as pytest classes that a plugin's author subclasses.

A subclass overrides one fixture, ``component``; pytest is needed, torch only by the tests themselves:

    class TestMyDecoder(DecoderContract):
        @pytest.fixture
        def component(self):
            return MyDecoder(horizon=4)

May import `simulators`, `parts` and below; plugins' tests and `bench` (for made-up observations) use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videopolicy.testing.data_contracts import BenchmarkContract, DatasetContract
    from videopolicy.testing.feature_contracts import DecoderContract, ExtractorContract
    from videopolicy.testing.importer_contract import ImporterContract
    from videopolicy.testing.model_contracts import (
        BackboneContract,
        LearnerContract,
        PolicyContract,
        TextContract,
    )
    from videopolicy.testing.running import run_contract
    from videopolicy.testing.toy_data import toy_batch, toy_episode, toy_observation, toy_spaces

_LAZY = {
    "BackboneContract": "model_contracts",
    "BenchmarkContract": "data_contracts",
    "DatasetContract": "data_contracts",
    "DecoderContract": "feature_contracts",
    "ExtractorContract": "feature_contracts",
    "ImporterContract": "importer_contract",
    "LearnerContract": "model_contracts",
    "PolicyContract": "model_contracts",
    "TextContract": "model_contracts",
    "run_contract": "running",
    "toy_batch": "toy_data",
    "toy_episode": "toy_data",
    "toy_observation": "toy_data",
    "toy_spaces": "toy_data",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"videopolicy.testing.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'videopolicy.testing' has no attribute '{name}'")


def __dir__() -> list[str]:
    """What is imported on first use is there, too."""
    return sorted({*globals(), *__all__})


__all__ = [
    "BackboneContract",
    "BenchmarkContract",
    "DatasetContract",
    "DecoderContract",
    "ExtractorContract",
    "ImporterContract",
    "LearnerContract",
    "PolicyContract",
    "TextContract",
    "run_contract",
    "toy_batch",
    "toy_episode",
    "toy_observation",
    "toy_spaces",
]
