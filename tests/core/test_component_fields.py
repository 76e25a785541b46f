"""Components inside components: what is accepted, and how a mistake deep inside is reported."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from videopolicy import AnyBackbone, ExtractorComponent
from videopolicy.components.kinds import KINDS
from videopolicy.components.modular import Modular
from videopolicy.components.plugins import Plugin
from videopolicy.components.registry import Registry
from videopolicy.testing import toys


class Reading(ExtractorComponent):
    type: Literal["reading"] = "reading"
    backbone: AnyBackbone
    tap: str = "hidden"


REGISTRY = Registry([Plugin("toys", "toys 1.0", [*toys.vpolicy_components(), Reading])])


def read(written: dict[str, Any]) -> Modular:
    return Modular.model_validate(written, context={"registry": REGISTRY})


def problems(written: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        read(written)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


def recipe(**backbone: Any) -> dict[str, Any]:
    return {
        "extractor": {"type": "reading", "backbone": {"type": "toy", **backbone}},
        "decoder": {"type": "toy", "horizon": 3},
    }


def test_nested_components_are_found_by_name_and_written_back() -> None:
    policy = read(recipe(width=5))
    assert policy.extractor == Reading(backbone=toys.ToyBackbone(width=5))
    assert policy.parts() == {"extractor": policy.extractor, "decoder": policy.decoder}
    assert policy.extractor.parts() == {"backbone": toys.ToyBackbone(width=5)}
    written = policy.model_dump(mode="json")
    assert written["extractor"]["backbone"] == {"type": "toy", "width": 5, "size": 4, "stride": 2}
    assert read(written) == policy


def test_a_typo_two_levels_down_has_its_path() -> None:
    assert problems(recipe(widht=5)) == {"extractor.backbone.widht": "Extra inputs are not permitted"}
    assert list(problems(recipe(width="many"))) == ["extractor.backbone.width"]


def test_all_mistakes_are_reported_at_once() -> None:
    written = recipe(widht=5)
    written["decoder"] = {"type": "toyy"}
    assert set(problems(written)) == {"extractor.backbone.widht", "decoder"}


def test_an_unknown_name_is_answered_with_the_near_ones() -> None:
    written = recipe()
    written["extractor"]["backbone"] = {"type": "toi"}
    assert (
        "There is no backbone named 'toi'. Did you mean 'toy'? Installed: toy."
        in (problems(written)["extractor.backbone"])
    )


def test_a_part_of_another_kind_is_refused() -> None:
    written = recipe()
    written["extractor"]["backbone"] = {"type": "reading", "backbone": {"type": "toy"}}
    assert "There is no backbone named 'reading'." in problems(written)["extractor.backbone"]
    assert "'reading' is" in problems(written)["extractor.backbone"]
    with pytest.raises(ValidationError, match="'toy' is a policy, not a decoder"):
        Modular(extractor=toys.ToyExtractor(), decoder=toys.ToyPolicy())


@pytest.mark.parametrize("value", ["toy", {"width": 3}, {"type": 3}, None, ["toy"]])
def test_what_is_no_component_is_explained(value: Any) -> None:
    written = recipe()
    written["extractor"]["backbone"] = value
    assert problems(written)["extractor.backbone"] == "a backbone is a mapping with a 'type', such as {type: name}"


def test_components_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        toys.ToyBackbone().width = 3


def test_every_kind_says_what_a_plugin_forgot() -> None:
    for kind, base in KINDS.items():
        assert base.kind == kind
    with pytest.raises(NotImplementedError):
        Reading(backbone=toys.ToyBackbone()).window()
