"""Finds plugins: installed packages with an entry point in group ``vpolicy``, and single files named by a recipe.

A plugin that fails to import is kept with its exception, so that asking for one of its names can explain it.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
import traceback
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
from videopolicy.paths import ensure_regular


@dataclass
class Plugin:
    """One source of components.

    Args:
        name: The entry point's name, or the file's path.
        distribution: Name and version of the installed package, or ``file``.
        components: What it provides.
        error: What is wrong with it, if anything is; most often, why it could not be loaded.
        source_hash: Hash of a single file's text; empty for installed packages.
        module: What was imported, of an installed package.
        installed: What that was installed from, if that is known.
    """

    name: str
    distribution: str
    components: list[type[Component]] = field(default_factory=list)
    error: BaseException | None = None
    source_hash: str = ""
    module: ModuleType | None = None
    installed: Distribution | None = None

    @property
    def trouble(self) -> str:
        """What is wrong with it, in a sentence; empty where nothing is."""
        if self.error is None:
            return ""
        ours = isinstance(self.error, PluginError)
        reason = " ".join(str(self.error).split()) if ours else f"{self.error!r}."
        state = "cannot be used as a whole" if self.components else "could not be loaded"
        return f"Plugin {self.name} ({self.distribution}) {state}: {reason}"

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
_HOOK = "vpolicy_components"


def _components(module: Any, name: str) -> list[type[Component]]:
    """What a module's hook returns; nothing where it has none.

    Raises:
        PluginError: What is to be the hook is not marked, not called as it must be, or returns something else.
    """
    manager = pluggy.PluginManager(hookspecs.ENTRY_POINT_GROUP)
    manager.add_hookspecs(hookspecs)
    _ensure_named(module, name)
    manager.register(module, name)
    found = [component for components in manager.hook.vpolicy_components() for component in components]
    for one in found:
        if not (isinstance(one, type) and issubclass(one, Component)):
            raise PluginError(f"{_HOOK} in {name} returns {one!r}, which is no component class.", "Return classes.")
    return found


def _ensure_named(module: Any, name: str) -> None:
    """Check that no function was meant to be the hook and is none: nothing would say why its components are missing.

    Raises:
        PluginError: One is marked under another name, or has the name or nearly that and no mark.
    """
    for written, value in vars(module).items() if hasattr(module, "__dict__") else ():
        marked = hasattr(value, f"{hookspecs.ENTRY_POINT_GROUP}_impl")
        if marked and written != _HOOK:
            raise PluginError(f"{name} marks {written} with @hookimpl, and there is no such hook.", f"Call it {_HOOK}.")
        if not marked and callable(value) and difflib.get_close_matches(written, [_HOOK], cutoff=0.85):
            put = "Put @videopolicy.hookimpl above it" + ("." if written == _HOOK else f", and call it {_HOOK}.")
            raise PluginError(f"{name} defines {written} without @hookimpl, so it is never asked.", put)


def installed_plugins() -> list[Plugin]:
    """Load every installed plugin, the core's own included, in order of name."""
    found = []
    for point in sorted(entry_points(group=hookspecs.ENTRY_POINT_GROUP), key=lambda p: p.name):
        plugin = Plugin(point.name, "unknown")
        try:
            if point.dist:
                plugin.distribution, plugin.installed = f"{point.dist.name} {point.dist.version}", point.dist
            loaded = point.load()
            plugin.module = sys.modules[point.module]
            plugin.components = _components(loaded, point.name)
            if not plugin.components:
                raise PluginError(
                    f"{point.value} provides no component.", f"Implement {_HOOK}() in it, marked with @hookimpl."
                )
        except (Exception, SystemExit) as error:  # kept, and explained when one of its names is asked for
            plugin.error = error
        found.append(plugin)
    return found


def file_plugin(path: Path) -> Plugin:
    """Load one Python file as a plugin.

    The file may implement the hook; without it, every component class that it defines is taken.

    Raises:
        PluginError: The file is missing, cannot be imported, or provides nothing.
    """
    path = path.parent.resolve() / path.name  # where the file is a link, it is known by its own name
    give = "Name a Python file, relative to the recipe's folder."
    ensure_regular(path, PluginError, give)
    if not path.is_file():
        raise PluginError(f"The plugin file {path} does not exist.", give)
    text = path.read_bytes()
    # Edited, it is another module: what is hashed is what runs.
    name = f"vpolicy_file_{path.stem}_{hashlib.sha256(str(path).encode() + text).hexdigest()[:8]}"
    module = sys.modules.get(name) or _import_file(name, path)
    try:
        from_hook = _components(module, path.name)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{_place(error, path)}: {_HOOK} fails: {error!r}", "Correct it.") from error
    components = from_hook or [
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
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(
            f"{_place(error, path)}: the plugin file cannot be imported: {error!r}", "Correct it."
        ) from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """Where in a file an error comes from, as ``file:line``."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)
