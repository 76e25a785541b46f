"""An extension of griffe, which reads the sources of the Python reference."""

from __future__ import annotations

from typing import Any

import griffe


class WithoutPrivateFields(griffe.Extension):
    """Leave out what classes keep for themselves: models list it with their fields otherwise."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called by griffe for every class that it has read."""
        for name in [name for name, member in cls.members.items() if name.startswith("_") and member.is_attribute]:
            cls.del_member(name)
