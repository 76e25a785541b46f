"""A program in a simulator's place that sends what a test has written down, byte by byte, to whoever started it.

It needs nothing but Python, so that it starts in a moment.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vpolicy_worker.wire import pack

_PROGRAM = """#!{python} -ISE
import socket, sys, time
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[sys.argv.index("--connect") + 1])
said = {said!r}

def exactly(count):
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data)) or sys.exit()
    return data

for number, message in enumerate(said):
    if number:
        exactly(int.from_bytes(exactly(8), "big"))
    for start in range(0, len(message), {at_once}):
        connection.sendall(message[start : start + {at_once}])
        time.sleep({pause})
exactly(8)
while True:
    time.sleep(1)
"""


def hostile_worker(path: Path, *said: bytes, at_once: int = 2**20, pause: float = 0.0) -> Path:
    """Write the program.

    Args:
        path: Where to.
        said: What it sends: as greeting, and after every call.
        at_once: Bytes in one piece.
        pause: Seconds after every piece.
    """
    program = _PROGRAM.format(python=sys.executable, said=list(said), at_once=at_once, pause=pause)
    path.write_text(program, encoding="utf-8")
    path.chmod(0o755)
    return path


def framed(message: object) -> bytes:
    """A message as it should be sent."""
    return with_length(pack(message))


def with_length(content: bytes) -> bytes:
    """Any bytes, announced as a message."""
    return len(content).to_bytes(8, "big") + content
