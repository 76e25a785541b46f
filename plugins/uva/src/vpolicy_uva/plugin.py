"""What this plugin provides: the parts of the method, and the readers of its published weights."""

from __future__ import annotations

from videopolicy import Component, hookimpl
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.importing import KlF16Importer, MarImporter, UvaImporter


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Uva, UvaJoint, UvaAction, UvaImporter, MarImporter, KlF16Importer]
