"""Names to component classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from videopolicy.components.kinds import KINDS, Component
from videopolicy.components.plugins import Plugin, installed_plugins
from videopolicy.errors import PluginError, did_you_mean, listing


@dataclass(frozen=True)
class RegisteredComponent:
    """A registered component and the plugin that it came from."""

    component: type[Component]
    plugin: Plugin


class Registry:
    """All components by kind and name.

    Raises:
        PluginError: Two plugins provide one name; the message names both.
    """

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self.plugins: list[Plugin] = []
        self._entries: dict[tuple[str, str], RegisteredComponent] = {}
        self._shared: dict[tuple[str, str], PluginError] = {}
        for plugin in plugins:
            self.add(plugin)

    def add(self, plugin: Plugin, strict: bool = True) -> None:
        """Register everything that a plugin provides; adding the same plugin again changes nothing.

        Args:
            plugin: The plugin. Another package may have called its own alike: both are registered.
            strict: Whether what is wrong with it is raised. It is kept as its ``error`` otherwise, so that others go
                on, and a name that two plugins provide can be had from neither.
        """
        if any((known.name, known.distribution) == (plugin.name, plugin.distribution) for known in self.plugins):
            return
        for component in plugin.components:
            try:
                self._enter(component, plugin)
            except PluginError as error:
                if strict:
                    raise
                plugin.error = error
        self.plugins.append(plugin)

    def _enter(self, component: type[Component], plugin: Plugin) -> None:
        if component.kind not in KINDS:
            raise PluginError(
                f"{component.__qualname__} from {plugin.name} is of no known kind.",
                f"Subclass one of {', '.join(kind.__name__ for kind in KINDS.values())}.",
            )
        key = (component.kind, component.name())
        known = self._entries.setdefault(key, RegisteredComponent(component, plugin))
        if known.component is not component:
            other = known.plugin
            self._shared[key] = PluginError(
                f"Two plugins provide a {key[0]} named '{key[1]}': {other.name} ({other.distribution}) "
                f"and {plugin.name} ({plugin.distribution}).",
                "Uninstall one of them, or rename your component.",
            )
            raise self._shared[key]

    def extended(self, plugins: Iterable[Plugin]) -> Registry:
        """A copy with more plugins in it."""
        copy = Registry()
        copy.plugins, copy._entries, copy._shared = list(self.plugins), dict(self._entries), dict(self._shared)
        for plugin in plugins:
            copy.add(plugin)
        return copy

    def get(self, kind: str, name: str) -> type[Component]:
        """The class registered for a name and a kind, or one of the kinds derived from it: a policy is a learner.

        Raises:
            PluginError: There is none; the message lists the installed names, the nearest one, and the
                plugins that failed to load.
        """
        kinds = [kind, *(other for other in KINDS if other != kind and issubclass(KINDS[other], KINDS[kind]))]
        for one in kinds:
            if (one, name) in self._shared:
                raise self._shared[one, name]
            if (one, name) in self._entries:
                return self._entries[one, name].component
        known = sorted({known for one in kinds for known in self.names(one)})
        message = f"There is no {kind} named '{name}'.{did_you_mean(name, known)} Installed: {listing(known)}."
        elsewhere = [other for other, candidate in self._entries if candidate == name]
        if elsewhere:
            message += f" ('{name}' is of kind {elsewhere[0]}.)"
        broken = [plugin for plugin in self.plugins if plugin.error]
        for plugin in broken:
            message += f" {plugin.trouble}"
        raise PluginError(message, "Run `vpolicy plugins` to see what is installed.")

    def names(self, kind: str) -> list[str]:
        return sorted(name for entry_kind, name in self._entries if entry_kind == kind)

    def entries(self) -> list[RegisteredComponent]:
        return [self._entries[key] for key in sorted(self._entries)]


def troubles() -> list[str]:
    """What is wrong with installed plugins, a sentence each; nothing where nobody has asked for one in this process."""
    if not current_registry.cache_info().currsize:
        return []
    return [plugin.trouble for plugin in current_registry().plugins if plugin.trouble]


@lru_cache(maxsize=1)
def current_registry() -> Registry:
    """The installed plugins, loaded on first use."""
    registry = Registry()
    for plugin in installed_plugins():
        registry.add(plugin, strict=False)
    return registry
