"""``vpolicy serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def serve(
    run: Annotated[
        Path, typer.Argument(help="Run, what `vpolicy export` wrote, or USER/NAME on the Hub.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all, which needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    clients: Annotated[int, typer.Option(min=1, max=256, help="Robots at once, rows of the batch.")] = 8,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu; by default the accelerator where there is one.", show_default=False)
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key that clients must send; or set VPOLICY_API_KEY.", show_default=False),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the Python files that its recipe names.")] = False,
) -> None:
    """Serve a run's policy to robots: openpi's WebSocket protocol, /healthz and /metrics."""
    key = _key(api_key_file)
    say(f"loading {run}", error=True)  # before the imports, which take a while
    from videopolicy.serving.server import bound, serve_here

    with bound(host, port, key) as listening:
        from videopolicy.deployment.loading import load

        policy = load(run, device, trust=trust)
        say(f"'{policy.name}' is loaded on {policy.device} and warms up", error=True)
        ended = serve_here(policy, listening, clients, key, lambda line: say(line, error=True))
    say(f"ended by {ended}", error=True)


def _key(file: Path | None) -> str | None:
    """The key, from a file or the environment: on the command line every user of the machine could read it.

    Raises:
        PolicyServerError: There is a place for it without a key.
    """
    from videopolicy.errors import PolicyServerError

    found = os.environ.get("VPOLICY_API_KEY") if file is None else file.read_text(encoding="utf-8").strip()
    if found is not None and not (found.isascii() and found.isprintable() and found.strip()):
        where = "VPOLICY_API_KEY" if file is None else str(file)
        raise PolicyServerError(f"{where} holds no key.", "Put one line of printable ASCII characters there.")
    return found
