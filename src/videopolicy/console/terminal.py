"""The terminal as rich writes to it: tables and progress whose texts may be anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType  # noqa: TID251
from rich.segment import Segment
from rich.text import Text

from videopolicy.console.text import CLOSED, clean, discard


class Terminal(Console):
    """A console that shows text as it is: no markup, no emoji codes, and nothing that is not `clean`.

    Args:
        options: Those of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed comes by here; a `Text` is cleaned before it is broken into lines."""
        if isinstance(renderable, str):
            renderable = self.render_str(renderable)
        if isinstance(renderable, Text) and (plain := clean(renderable.plain)) != renderable.plain:
            renderable = renderable.copy()
            renderable.plain = plain
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        """Whoever read this has gone, such as ``head``: ends quietly."""
        self.quiet = True
        discard(self.file)
        raise SystemExit(CLOSED)
