"""The contract of importers, on the importer of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videopolicy import Checkpoint
from videopolicy.components.plugins import file_plugin
from videopolicy.testing import ImporterContract

IMPORTER = next(
    part for part in file_plugin(Path(__file__).with_name("parts.py")).components if part.__name__ == "HalvesImporter"
)


class TestHalvesImporter(ImporterContract):
    @pytest.fixture
    def component(self):
        return IMPORTER()

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        shapes = {"net.a.weight": (4, 3), "net.a.bias": (4,), "net.b.weight": (8, 4), "net.b.bias": (8,), "ema.0": (1,)}
        return Checkpoint(Path("official.ckpt"), {"state_dict": {k: torch.ones(v) for k, v in shapes.items()}})
