"""A folder for sockets: whose path is short enough for one, and which is there again when it was cleaned away."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from videopolicy.errors import SimulationError
from videopolicy.storage.temporary import make_folder, remove_folder

_LONGEST = 100
"""Bytes of a socket's path; the system's own limit is 107 (Linux) or 103."""
_NAME = 24
"""Bytes for what is added to a folder: ``/vpolicy-ABCDEFGH/999.sock``."""
_OTHERS = ("/tmp", "/var/tmp", "/dev/shm")


class SocketFolder:
    """Gets a folder of its own in the first place that will do: the one for temporary files, else another.

    ``TMPDIR`` may be too long for sockets, and folders for temporary files are cleaned while a run goes on.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    def ready(self) -> Path:
        """The folder, which is made when it is not there.

        Raises:
            SimulationError: It can be made nowhere.
        """
        if self._path is None or not self._path.is_dir():
            self.remove()
            self._path = self._made()
        return self._path

    def listen(self, name: str) -> tuple[socket.socket, Path]:
        """A socket that waits for one connection, and its path.

        Args:
            name: Of the socket in the folder, at most ten characters.
        """
        path = self.ready() / name
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            listener.listen(1)
        except OSError:
            listener.close()
            raise
        return listener, path

    def remove(self) -> None:
        """Delete it with what is in it."""
        if self._path is not None:
            remove_folder(self._path)
            self._path = None

    @staticmethod
    def _made() -> Path:
        failures = []
        for place in _places():
            if len(place.encode()) + _NAME > _LONGEST:
                failures.append(f"{place} is too long")
                continue
            try:
                return make_folder(place)
            except OSError as error:
                failures.append(f"{place}: {error.strerror}")
        raise SimulationError(
            f"There is no place for the sockets of simulators ({'; '.join(failures)}).",
            "Set TMPDIR to a folder with a short name that can be written.",
        )


def _places() -> list[str]:
    try:
        usual = [tempfile.gettempdir()]
    except FileNotFoundError:  # it has looked at TMPDIR and the usual places, and can write none of them
        usual = []
    return [*usual, *(place for place in _OTHERS if place not in usual)]
