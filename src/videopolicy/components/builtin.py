"""Components that the core itself provides, through the same hook as everybody else's."""

from __future__ import annotations

from videopolicy.components.hookspecs import hookimpl
from videopolicy.components.kinds import Component
from videopolicy.components.modular import Modular
from videopolicy.components.text import COMPONENTS


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Modular, *COMPONENTS]
