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
        for plugin in plugins:
            self.add(plugin)

    def add(self, plugin: Plugin) -> None:
        """Register everything that a plugin provides; adding the same plugin again changes nothing."""
        if any(known.name == plugin.name for known in self.plugins):
            return
        for component in plugin.components:
            if component.kind not in KINDS:
                raise PluginError(
                    f"{component.__qualname__} from {plugin.name} is of no known kind.",
                    f"Subclass one of {', '.join(kind.__name__ for kind in KINDS.values())}.",
                )
            key = (component.kind, component.name())
            if key in self._entries and self._entries[key].component is not component:
                other = self._entries[key].plugin
                raise PluginError(
                    f"Two plugins provide a {key[0]} named '{key[1]}': {other.name} ({other.distribution}) "
                    f"and {plugin.name} ({plugin.distribution}).",
                    "Uninstall one of them, or rename your component.",
                )
            self._entries[key] = RegisteredComponent(component, plugin)
        self.plugins.append(plugin)

    def extended(self, plugins: Iterable[Plugin]) -> Registry:
        """A copy with more plugins in it."""
        copy = Registry(self.plugins)
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
            if (one, name) in self._entries:
                return self._entries[one, name].component
        known = sorted({known for one in kinds for known in self.names(one)})
        message = f"There is no {kind} named '{name}'.{did_you_mean(name, known)} Installed: {listing(known)}."
        elsewhere = [other for other, candidate in self._entries if candidate == name]
        if elsewhere:
            message += f" ('{name}' is of kind {elsewhere[0]}.)"
        broken = [plugin for plugin in self.plugins if plugin.error]
        for plugin in broken:
            message += f" Plugin {plugin.name} ({plugin.distribution}) could not be loaded: {plugin.error!r}."
        raise PluginError(message, "Run `vpolicy plugins` to see what is installed.")

    def names(self, kind: str) -> list[str]:
        return sorted(name for entry_kind, name in self._entries if entry_kind == kind)

    def entries(self) -> list[RegisteredComponent]:
        return [self._entries[key] for key in sorted(self._entries)]


@lru_cache(maxsize=1)
def current_registry() -> Registry:
    """The installed plugins, loaded on first use."""
    return Registry(installed_plugins())
