"""Serves one simulator over one connection, and ends with it."""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import select
import socket
import sys
import threading
import time
import traceback
from types import ModuleType
from typing import Any

from vpolicy_worker.simulator import Simulator
from vpolicy_worker.wire import PROTOCOL, ConnectionClosedError, receive, send

METHODS = ("hello", "reset", "step", "demonstrate", "replay", "guide", "follow", "recorded", "render")
_CHARACTERS = 20_000  # of a traceback: the core takes no answers of any length


def serve(path: str, module: str, simulator: str, config: dict[str, Any], timeout: float = 0.0) -> None:
    """Connect to the core, greet it, and answer its calls until it closes the connection.

    The greeting is ``{"protocol", "hello"}``; a call is ``{"id", "method", "arguments"}``; an answer is
    ``{"id", "result"}`` or ``{"id", "error", "traceback"}``.

    Args:
        path: Unix-domain socket on which the core listens.
        module: Python file that defines the simulator.
        simulator: Name of the class.
        config: Its keyword arguments.
        timeout: Seconds after which a call has hung: the stack is printed and the process ends, even when the
            simulator never gives the interpreter back. 0: never.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    threading.Thread(target=_end_with_the_core, args=(connection,), daemon=True).start()
    served = None
    try:
        try:
            served = getattr(load_module(module), simulator)(**config)
            greeting = {"hello": served.hello()}
        except Exception as error:  # sent to the core, which reports it
            greeting = _failure(error)
        _deliver(connection, dict(greeting, protocol=PROTOCOL), protocol=PROTOCOL)
        while served is not None:
            call = receive(connection)
            if timeout:
                faulthandler.dump_traceback_later(timeout, exit=True)
            answer = _answer(served, call["method"], call["arguments"])
            faulthandler.cancel_dump_traceback_later()
            _deliver(connection, dict(answer, id=call["id"]), id=call["id"])
    except ConnectionClosedError:
        pass
    finally:
        if served is not None:
            served.close()


def load_module(path: str) -> ModuleType:
    """Import a simulator's file; modules beside it can be imported by it."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))  # noqa: PTH120, PTH100
    spec = importlib.util.spec_from_file_location("vpolicy_simulator", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _answer(simulator: Simulator, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        if method not in METHODS:
            raise ValueError(f"a simulator has no method {method!r}")
        began, rendered = time.perf_counter(), simulator.rendering_seconds
        result = getattr(simulator, method)(**arguments)
        if method != "hello" and isinstance(result, dict) and "seconds" not in result:
            taken, rendered = time.perf_counter() - began, simulator.rendering_seconds - rendered
            result = dict(result, seconds={"simulation": max(0.0, taken - rendered), "rendering": rendered})
        return {"result": result}
    except Exception as error:  # sent to the core, which reports it
        return _failure(error)


def _deliver(connection: socket.socket, message: dict[str, Any], **always: int) -> None:
    """Send a message; where the simulator returned what cannot be sent, say so instead."""
    try:
        send(connection, message)
    except ConnectionClosedError:
        raise
    except Exception as error:  # raised while it was encoded: nothing of it has been sent
        send(connection, dict(_failure(error), **always))


def _failure(error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    said = f"{type(error).__name__}: {error}"[:_CHARACTERS]
    return {"error": _text(said), "traceback": _text(traceback.format_exc()[-_CHARACTERS:])}


def _text(text: str) -> str:
    """The text without what UTF-8 cannot hold, such as halves of characters in names of files."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _end_with_the_core(connection: socket.socket) -> None:
    """End this process when the core has gone, also in the middle of a call and also after ``kill -9``."""
    parent = os.getppid()
    poll = select.poll()
    poll.register(connection, getattr(select, "POLLRDHUP", 0))  # a hang-up is always reported
    while os.getppid() == parent:
        if poll.poll(1000):
            # An idle worker notices by itself and closes its simulator in order; a busy one may never.
            threading.Event().wait(2.0)
            break
    os._exit(1)
