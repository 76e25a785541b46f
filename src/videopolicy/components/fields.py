"""Types of fields that hold a component: ``AnyBackbone`` takes every backbone that the registry knows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import SerializeAsAny, ValidationInfo, WrapValidator
from pydantic_core import PydanticCustomError

from videopolicy.components import registry as installed
from videopolicy.components.kinds import (
    KINDS,
    BackboneComponent,
    BenchmarkComponent,
    Component,
    DatasetComponent,
    DecoderComponent,
    ExtractorComponent,
    LearnerComponent,
    PolicyComponent,
    TextComponent,
)
from videopolicy.errors import PluginError


def _resolve(kind: str) -> WrapValidator:
    def validate(value: Any, handler: Any, info: ValidationInfo) -> Component:
        if isinstance(value, Component):
            if not isinstance(value, KINDS[kind]):
                raise PydanticCustomError("component", f"'{value.type}' is a {value.kind}, not a {kind}")
            return value
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise PydanticCustomError("component", f"a {kind} is a mapping with a 'type', such as {{type: name}}")
        registry = (info.context or {}).get("registry") or installed.current_registry()
        try:
            cls = registry.get(kind, value["type"])
        except PluginError as error:
            raise PydanticCustomError("component", "{text}", {"text": error.message}) from error
        return cls.model_validate(value, context=info.context)

    return WrapValidator(validate)


AnyText = Annotated[SerializeAsAny[TextComponent], _resolve("text")]
AnyBackbone = Annotated[SerializeAsAny[BackboneComponent], _resolve("backbone")]
AnyExtractor = Annotated[SerializeAsAny[ExtractorComponent], _resolve("extractor")]
AnyDecoder = Annotated[SerializeAsAny[DecoderComponent], _resolve("decoder")]
AnyLearner = Annotated[SerializeAsAny[LearnerComponent], _resolve("learner")]
AnyPolicy = Annotated[SerializeAsAny[PolicyComponent], _resolve("policy")]
AnyBenchmark = Annotated[SerializeAsAny[BenchmarkComponent], _resolve("benchmark")]
AnyDataset = Annotated[SerializeAsAny[DatasetComponent], _resolve("dataset")]
