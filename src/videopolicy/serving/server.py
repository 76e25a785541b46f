"""Listens: openpi's WebSocket protocol, ``/healthz`` and ``/metrics`` on one port."""

from __future__ import annotations

import asyncio
import hmac
import http
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from videopolicy.deployment.policy import DeployedPolicy
from videopolicy.deployment.rows import Asked, act_for
from videopolicy.errors import PolicyServerError
from videopolicy.evaluation.acting import stack_observations
from videopolicy.serving.batching import Batcher
from videopolicy.serving.conversation import Service, converse
from videopolicy.serving.metrics import Metrics
from videopolicy.serving.questions import largest_message

_ALIVE = 10.0
"""Seconds between two pings, and until one must be answered: then a robot that has vanished is given up."""
_GOODBYE = 2.0
"""Seconds that robots have to close when the server ends."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUIET = logging.getLogger("videopolicy.serving")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False  # strangers who knock would fill the terminal with tracebacks


def bound(host: str, port: int, key: str | None) -> socket.socket:
    """A socket at an address, which does not listen yet: that the address is free is known before a model is loaded.

    Args:
        host: An address or a name of this machine.
        port: 0 takes any free one.
        key: Without which nobody else's machine may ask; None for this machine alone.

    Raises:
        PolicyServerError: The address cannot be had, or others could reach it without a key.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise PolicyServerError(f"{host} is no address of this machine: {error.strerror}.", "Correct --host.") from None
    if key is None and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise PolicyServerError(
            f"Everybody who reaches {host} could use the policy without a key.",
            "Put a key into VPOLICY_API_KEY or a file that --api-key-file names, or serve 127.0.0.1 alone.",
        )
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise PolicyServerError(
            f"Port {port} of {host} cannot be had: {error.strerror}.", "Name another one with --port."
        ) from None
    return listening


def warm_up(policy: DeployedPolicy, rows: int) -> bool:
    """Let the policy plan once with one row and with all, and compile or capture it where its recipe says so.

    Returns:
        Whether it must always be given all rows.
    """
    window, spaces = policy.window, policy.spaces
    count = len(window.observed)
    images = {one.name: np.zeros((count, one.height, one.width, 3), np.uint8) for one in spaces.cameras}
    state = np.zeros((count, spaces.state.dim), np.float32) if spaces.state else None
    seen = policy.seen(images, state, next(iter(policy.instructions), "wait"))
    fixed = policy.actor.fixes_rows
    policy.actor.prepare(stack_observations([seen] * rows))
    for size in {rows} if fixed else {1, rows}:
        for found in act_for(policy.actor, {0: Asked(seen, torch.Generator())}, size).values():
            if isinstance(found, Exception):
                raise found
    policy.actor.reset(list(range(rows)))
    return fixed


async def serving(
    policy: DeployedPolicy,
    listening: socket.socket,
    rows: int,
    fixed: bool,
    key: str | None,
    stop: asyncio.Event,
    say: Callable[[str], None],
    ready: Callable[[], None],
) -> None:
    """Serve a policy until it is to stop.

    Args:
        policy: It has been warmed up.
        listening: See `bound`.
        rows: How many robots may be connected.
        fixed: See `warm_up`.
        key: What clients must send as ``Authorization: Api-Key KEY``; None: nothing.
        stop: Set when it is to end.
        say: Gets a line for what fails.
        ready: Called when clients can connect.
    """
    metrics = Metrics()
    batcher = Batcher(policy.actor, rows, fixed, metrics)
    service = Service(policy, batcher, metrics, say)
    answering = asyncio.create_task(batcher.run())
    try:
        async with serve(
            lambda connection: converse(connection, service),
            sock=listening,
            origins=[None],  # no browser: any page could otherwise reach what this machine can
            process_request=partial(_respond, key=key, metrics=metrics),
            compression=None,
            max_size=largest_message(policy),
            max_queue=2,
            ping_interval=_ALIVE,
            ping_timeout=_ALIVE,
            close_timeout=_GOODBYE,
            logger=_QUIET,
        ):
            ready()
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([stopped, answering], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
    finally:
        answering.cancel()
        batcher.close()
    if answering.done() and not answering.cancelled():
        answering.result()  # it ends by itself only where something is broken


def serve_here(
    policy: DeployedPolicy, listening: socket.socket, rows: int, key: str | None, say: Callable[[str], None]
) -> str:
    """Warm a policy up and serve it until Ctrl-C, SIGTERM or SIGHUP. To be called in the main thread.

    Args:
        policy, listening, rows, key, say: See `serving`.

    Returns:
        The name of the signal.
    """
    fixed = warm_up(policy, rows)
    ended = ""

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def end(number: signal.Signals) -> None:
            nonlocal ended
            ended = number.name
            stop.set()
            for one in heard:
                loop.remove_signal_handler(one)  # a second one ends the process at once

        # What is ignored stays so, such as SIGHUP under nohup.
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in heard:
            loop.add_signal_handler(number, end, number)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        secret = " with the key" if key is not None else ""
        ready = partial(say, f"ready: '{policy.name}' for {rows} robots at ws://{shown}:{port}{secret}; Ctrl-C ends it")
        await serving(policy, listening, rows, fixed, key, stop, say, ready)

    asyncio.run(main())
    return ended


def _respond(connection: ServerConnection, request: Request, key: str | None, metrics: Metrics) -> Response | None:
    """What is answered before a WebSocket begins; None lets it begin."""
    path = request.path.partition("?")[0]
    if path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "OK\n")
    if key is not None and not _knows(request, key):
        told = "The key is missing or wrong: send the header 'Authorization: Api-Key KEY'.\n"
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, told)
    if path != "/metrics":
        return None
    text = metrics.text()
    headers = {"Content-Type": metrics.content_type, "Content-Length": str(len(text)), "Connection": "close"}
    return Response(http.HTTPStatus.OK, "OK", Headers(headers), text)


def _knows(request: Request, key: str) -> bool:
    """Whether a request has the key; how long it takes to say so does not depend on where a wrong one differs."""
    given = request.headers.get_all("Authorization")
    wanted = f"Api-Key {key}".encode()
    return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "surrogateescape"), wanted)
