"""What this plugin provides: the parts of the method, and the readers of its published weights."""

from __future__ import annotations

from videopolicy import Component, hookimpl
from vpolicy_video_policy.components import ActionUNet, EveryStep
from vpolicy_video_policy.importing import OpenClipTextImporter, VideoPolicyImporter


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [EveryStep, ActionUNet, VideoPolicyImporter, OpenClipTextImporter]
