"""A plugin file with one component of every kind that a recipe needs."""

from __future__ import annotations

from typing import Literal

from videopolicy import (
    ActionSpace,
    AnyBackbone,
    BackboneComponent,
    BenchmarkComponent,
    Camera,
    DatasetComponent,
    DecoderComponent,
    ExtractorComponent,
    FeatureLayout,
    Spaces,
    Task,
    Window,
)


class Film(BackboneComponent):
    type: Literal["film"] = "film"
    frozen: bool = True
    width: int = 8

    def window(self) -> Window:
        return Window((0,), (2, 4))


class Eye(ExtractorComponent):
    type: Literal["eye"] = "eye"
    backbone: AnyBackbone
    cameras: int = 1

    def window(self) -> Window:
        return self.backbone.window()

    def layout(self, spaces: Spaces) -> FeatureLayout:
        return FeatureLayout(self.backbone.width)

    def check(self, spaces: Spaces) -> list[str]:
        found = len(spaces.cameras)
        return [f"the eye needs {self.cameras} cameras, there are {found}"] if found < self.cameras else []


class Hand(DecoderComponent):
    type: Literal["hand"] = "hand"
    horizon: int = 4
    width: int = 8

    def check(self, layout: FeatureLayout, spaces: Spaces) -> list[str]:
        return [] if layout.dim == self.width else [f"the hand takes width {self.width}, the eye gives {layout}"]


class Table(BenchmarkComponent):
    type: Literal["table"] = "table"

    def spaces(self) -> Spaces:
        actions = ActionSpace(names=("x",), low=(-1,), high=(1,), control="velocity", rate=10)
        return Spaces(cameras=(Camera(name="front", height=8, width=8),), actions=actions)

    def tasks(self) -> tuple[Task, ...]:
        return (Task(name="wipe", instruction="wipe the table", max_steps=5),)


class Tape(DatasetComponent):
    type: Literal["tape"] = "tape"
