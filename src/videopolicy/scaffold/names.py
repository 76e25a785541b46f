"""What a new part, its package and its classes are called, all by one name."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
from dataclasses import dataclass

from videopolicy.components.registry import Registry
from videopolicy.errors import PluginError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40
"""Letters; the lines of the templates have room for as many."""


@dataclass(frozen=True)
class Names:
    """Names that follow from one.

    Args:
        kind: Of the part, such as ``decoder``.
        name: By which recipes ask for it, such as ``my-decoder``.
    """

    kind: str
    name: str

    @property
    def identifier(self) -> str:
        """As a Python module, such as ``my_decoder``."""
        return self.name.replace("-", "_")

    @property
    def cls(self) -> str:
        """As a class, such as ``MyDecoder``."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def distribution(self) -> str:
        """As a package that is installed, such as ``vpolicy-my-decoder``."""
        return f"vpolicy-{self.name}"

    @property
    def package(self) -> str:
        """As a package that is imported, such as ``vpolicy_my_decoder``."""
        return f"vpolicy_{self.identifier}"


def ensure_usable(names: Names, registry: Registry, single: bool) -> None:
    """Check that a name can be given to a new part.

    Args:
        names: The name, and what follows from it.
        registry: Says which names are taken.
        single: Whether it becomes a single file and no package.

    Raises:
        PluginError: It is no name, or taken.
    """
    name = names.name
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[0-9]+", name)
        better = "-".join(words).lower()[:_LONGEST].strip("-")
        such = better if _NAME.fullmatch(better) else f"my-{names.kind}"
        raise PluginError(
            f"'{name}' is no name for a part: it has to begin with a letter and have lower-case letters, digits and "
            f"hyphens between them, at most {_LONGEST} in all.",
            f"Call it '{such}', say.",
        )
    if keyword.iskeyword(names.identifier) or keyword.iskeyword(names.cls):
        raise PluginError(f"'{name}' is a word of Python's own.", f"Call it 'my-{name}', say.")
    for entry in registry.entries():
        if (entry.component.kind, entry.component.name()) == (names.kind, name):
            raise PluginError(
                f"There is a {names.kind} '{name}' already, of {entry.plugin.distribution}.", "Choose another name."
            )
    if not single and importlib.util.find_spec(names.package) is not None:
        raise PluginError(
            f"There is a package {names.package} already.", "Choose another name, or uninstall the package."
        )


def ensure_bound_once(names: Names, source: str) -> None:
    """Check that a module imports nothing that is called like the new class.

    Raises:
        PluginError: It does.
    """
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    if names.cls in imported:
        raise PluginError(
            f"The class of '{names.name}' would be called {names.cls}, as one that it needs.",
            f"Call it 'my-{names.name}', say.",
        )
