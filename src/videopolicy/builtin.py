"""Components that the core itself provides, through the same hook as everybody else's."""

from __future__ import annotations

from videopolicy.component import Component
from videopolicy.hookspecs import hookimpl
from videopolicy.modular import Modular
from videopolicy.text import COMPONENTS


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Modular, *COMPONENTS]
