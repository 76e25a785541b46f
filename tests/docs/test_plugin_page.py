"""The page about plugins leaves no kind and no contract out, and the smallest decoder is one in both its forms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from videopolicy import testing
from videopolicy.components.kinds import KINDS
from videopolicy.components.plugins import file_plugin
from videopolicy.testing import DecoderContract
from videopolicy.types import FeatureLayout

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "plugins.md").read_text(encoding="utf-8")


def test_file_and_package_are_the_same_decoder() -> None:
    def network(text: str) -> str:
        return re.search(r"(    def __init__.*?)(?=\n\n\nclass|\Z)", text, flags=re.DOTALL).group(1).rstrip()

    package = DOCS / "examples" / "vpolicy-my-decoder" / "src" / "vpolicy_my_decoder"
    single = (DOCS / "examples" / "my_decoder.py").read_text(encoding="utf-8")
    assert network(single) == network((package / "network.py").read_text(encoding="utf-8"))
    assert len([line for line in single.splitlines() if line.strip()]) <= 30


def test_every_kind_and_contract_is_named() -> None:
    for kind, base in KINDS.items():
        assert f"`{kind}` | `{base.__name__}`" in PAGE
    for name in testing.__all__:
        if name.endswith("Contract"):
            assert f"`{name}`" in PAGE


class TestDecoderOfTheFile(DecoderContract):
    @pytest.fixture
    def component(self):
        (cls,) = file_plugin(DOCS / "examples" / "my_decoder.py").components
        return cls(horizon=3)

    @pytest.fixture
    def layout(self) -> FeatureLayout:
        return FeatureLayout(8, (("frames", 2), ("latents", 3)))
