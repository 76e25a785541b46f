"""``vpolicy push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def push(
    run: Annotated[Path, typer.Argument(help="Run folder, or one that `vpolicy export` wrote.", show_default=False)],
    name: Annotated[str, typer.Argument(help="USER/NAME on the Hugging Face Hub.", show_default=False)],
    licence: Annotated[
        str, typer.Option("--license", help="The Hub's identifier, such as apache-2.0; yours to choose.")
    ] = "unknown",
    private: Annotated[bool, typer.Option("--private", help="Make the new repository private.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Run the Python files that its recipe names.")] = False,
) -> None:
    """Publish a finished run on the Hugging Face Hub: its policy, recipe, episodes and a model card."""
    from videopolicy.deployment.pushing import push as pushed

    done = pushed(run, name, licence, private=private, trust=trust)
    say(f"{done.url}: {done.files} files, {done.bytes / 2**20:.1f} MiB, revision {done.revision[:12]}")
    say(f"in Python: videopolicy.load({name!r})\nfor robots: vpolicy serve {name}")
