"""Messages between the core and a worker: length-prefixed msgpack with arrays, over a stream socket.

A message is eight bytes of length, big endian, and that many bytes of msgpack. An array is extension type 1:
msgpack of ``[dtype, shape]`` followed by the raw C-ordered bytes. Nothing is ever unpickled, and whatever arrives may
be wrong: nothing is allocated because a length was announced.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgpack
import numpy as np

PROTOCOL = 1
"""Version of the conversation; the core rejects a worker of another version."""

_LENGTH = struct.Struct(">Q")
_HEADER = struct.Struct(">I")
_ARRAY = 1
_LIMIT = 2**33
_KINDS = "biufc"  # numbers and truth values
_AT_ONCE = 2**20  # bytes for which there is room before any of them has arrived
_LONGEST = 2**16  # entries of one list or mapping: room for them is made before they are read
_ENTRIES = 2**18  # entries of all lists and mappings of a message


class ConnectionClosedError(Exception):
    """The other side has gone."""


class MalformedMessageError(Exception):
    """The other side has sent what is no message, or a longer one than was agreed."""


def pack(message: Any) -> bytes:
    """Encode a message of plain data and numpy arrays (of numbers or truth values)."""
    return msgpack.packb(message, default=_encode, use_bin_type=True)


def unpack(data: bytes | bytearray) -> Any:
    """Decode a message; its arrays are writable copies.

    Raises:
        MalformedMessageError: It is none.
    """
    entries = 0

    def count(container: Any) -> Any:
        nonlocal entries
        entries += 1 + len(container)
        if entries > _ENTRIES:
            raise ValueError("it has more entries than any message needs")
        return container

    try:
        return msgpack.unpackb(
            data,
            ext_hook=_decode,
            list_hook=count,
            object_hook=count,
            raw=False,
            strict_map_key=False,
            max_array_len=_LONGEST,
            max_map_len=_LONGEST,
            max_ext_len=len(data),
        )
    except Exception as error:  # bytes from outside can fail in every way, and all of them mean the same
        raise MalformedMessageError(f"it cannot be decoded: {type(error).__name__}: {error}") from error


def send(connection: socket.socket, message: Any) -> None:
    """Send one message.

    Raises:
        ConnectionClosedError: The other side has gone.
    """
    data = pack(message)
    try:
        connection.sendall(_LENGTH.pack(len(data)) + data)
    except ConnectionError as error:
        raise ConnectionClosedError(str(error)) from error


def receive(connection: socket.socket, limit: int = _LIMIT) -> Any:
    """Wait for one message.

    Args:
        connection: A blocking socket.
        limit: Bytes that it may have.

    Raises:
        ConnectionClosedError: The other side has gone, possibly in the middle of a message.
        MalformedMessageError: What has arrived is no message, or a longer one.
    """
    incoming = Incoming(limit)
    while not incoming.read(connection):
        pass
    return incoming.message()


class Incoming:
    """One message as it arrives, piece by piece.

    Args:
        limit: Bytes that it may have.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self.limit = limit
        self._length = -1  # not known yet
        self._data = bytearray(_LENGTH.size)
        self._received = 0

    def read(self, connection: socket.socket) -> bool:
        """Take what is there, at least one byte; returns whether the message is whole.

        Raises:
            ConnectionClosedError: The other side has gone.
            MalformedMessageError: A longer message was announced.
            BlockingIOError: Nothing is there, on a socket that does not block.
        """
        if self._received == len(self._data) < self._length:
            self._data.extend(bytes(min(len(self._data), self._length - len(self._data))))
        try:
            with memoryview(self._data) as whole, whole[self._received :] as room:
                count = connection.recv_into(room)
        except ConnectionError as error:
            raise ConnectionClosedError(str(error)) from error
        if count == 0:
            raise ConnectionClosedError("the connection was closed")
        self._received += count
        if self._length < 0 and self._received == _LENGTH.size:
            (self._length,) = _LENGTH.unpack(self._data)
            if not 0 < self._length <= self.limit:
                raise MalformedMessageError(
                    f"a message of {self._length} bytes was announced, at most {self.limit} were agreed"
                )
            self._data, self._received = bytearray(min(self._length, _AT_ONCE)), 0
        return self._received == self._length

    def message(self) -> Any:
        """Decode it.

        Raises:
            MalformedMessageError: It is none.
        """
        return unpack(self._data)


def _encode(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _KINDS:
            raise TypeError(f"an array of type {value.dtype} cannot be sent")
        header = msgpack.packb([value.dtype.str, list(value.shape)])
        return msgpack.ExtType(_ARRAY, _HEADER.pack(len(header)) + header + np.ascontiguousarray(value).tobytes())
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _decode(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown extension type {code}")
    (size,) = _HEADER.unpack_from(data)
    start = _HEADER.size + size
    name, shape = msgpack.unpackb(data[_HEADER.size : start])
    dtype = np.dtype(str(name))
    if dtype.kind not in _KINDS:
        raise ValueError(f"an array of type {dtype}")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"an array of shape {shape}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).copy()
