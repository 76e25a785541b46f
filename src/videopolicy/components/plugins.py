"""Finds plugins: installed packages with an entry point in group ``vpolicy``, and single files named by a recipe.

A plugin that fails to import is kept with its exception, so that asking for one of its names can explain it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib.machinery import SourceFileLoader
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pluggy

from videopolicy.components import hookspecs
from videopolicy.components.kinds import Component
from videopolicy.components.sources import code_hash, package_code, with_neighbours
from videopolicy.errors import PluginError


@dataclass
class Plugin:
    """One source of components.

    Args:
        name: The entry point's name, or the file's path.
        distribution: Name and version of the installed package, or ``file``.
        components: What it provides.
        error: Why it could not be loaded, if it could not.
        source_hash: Hash of a single file's text; empty for installed packages.
        module: What was imported, of an installed package.
        installed: What that was installed from, if that is known.
    """

    name: str
    distribution: str
    components: list[type[Component]] = field(default_factory=list)
    error: Exception | None = None
    source_hash: str = ""
    module: ModuleType | None = None
    installed: Distribution | None = None

    @cached_property
    def code(self) -> str:
        """Says which code it is: the version where one was installed, a hash of the sources where they can be edited.

        The sources are read when somebody asks, and once: an edit counts from the next process on, as an import does.
        The core's own are no plugin's: what identifies a result names those that decide it.
        """
        if self.source_hash:
            return f"{self.distribution} {code_hash(with_neighbours(Path(self.name)))}"
        if self.module is None or self.module.__name__.partition(".")[0] == _CORE:
            return self.distribution
        return package_code(self.module, self.installed)


_CORE = "videopolicy"


def _components(manager: pluggy.PluginManager, module: Any) -> list[type[Component]]:
    caller = manager.subset_hook_caller(
        "vpolicy_components",
        remove_plugins=[plugin for plugin in manager.get_plugins() if plugin is not module],
    )
    return [component for components in caller() for component in components]


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.ENTRY_POINT_GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def installed_plugins() -> list[Plugin]:
    """Load every installed plugin, the core's own included, in order of name."""
    manager, found = _manager(), []
    for point in sorted(entry_points(group=hookspecs.ENTRY_POINT_GROUP), key=lambda p: p.name):
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        plugin = Plugin(point.name, distribution, installed=point.dist)
        try:
            loaded = point.load()
            plugin.module = sys.modules[point.module]
            manager.register(loaded, point.name)
            plugin.components = _components(manager, loaded)
        except Exception as error:  # kept, and explained when one of its names is asked for
            plugin.error = error
        found.append(plugin)
    return found


def file_plugin(path: Path) -> Plugin:
    """Load one Python file as a plugin.

    The file may implement the hook; without it, every component class that it defines is taken.

    Raises:
        PluginError: The file is missing, cannot be imported, or provides nothing.
    """
    path = path.resolve()
    if not path.is_file():
        raise PluginError(f"The plugin file {path} does not exist.", "Give a path relative to the recipe's folder.")
    text = path.read_bytes()
    # Edited, it is another module: what is hashed is what runs.
    name = f"vpolicy_file_{path.stem}_{hashlib.sha256(str(path).encode() + text).hexdigest()[:8]}"
    module = sys.modules.get(name) or _import_file(name, path)
    manager = _manager()
    manager.register(module, name)
    components = _components(manager, module) or [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Component)
        and value.__module__ == name
        and "type" in value.model_fields
        and value.model_fields["type"].default
    ]
    if not components:
        raise PluginError(
            f"The plugin file {path} defines no component.",
            "Subclass one of videopolicy's component kinds in it, or implement vpolicy_components().",
        )
    return Plugin(str(path), "file", components, source_hash=hashlib.sha256(text).hexdigest())


class _SourceAlone(SourceFileLoader):
    """Never takes compiled code from the cache, which is found by time in whole seconds and size: what a key says of a
    file is what runs, however soon after an edit."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _import_file(name: str, path: Path) -> ModuleType:
    loader = _SourceAlone(name, str(path)) if path.suffix == ".py" else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file.", "Name a file that ends with .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PluginError(f"The plugin file {path} cannot be imported: {error!r}", "Correct the file.") from error
    return module
