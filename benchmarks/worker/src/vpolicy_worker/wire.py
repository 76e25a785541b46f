"""Messages between the core and a worker: length-prefixed msgpack with arrays, over a stream socket.

A message is eight bytes of length, big endian, and that many bytes of msgpack. An array is extension type 1:
msgpack of ``[dtype, shape]`` followed by the raw C-ordered bytes. Nothing is ever unpickled.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgpack
import numpy as np

PROTOCOL = 1
"""Version of the conversation; the core refuses a worker of another version."""

_LENGTH = struct.Struct(">Q")
_HEADER = struct.Struct(">I")
_ARRAY = 1
_LIMIT = 2**33


class ConnectionClosedError(Exception):
    """The other side has gone."""


def pack(message: Any) -> bytes:
    """Encode a message of plain data and numpy arrays (no object arrays)."""
    return msgpack.packb(message, default=_encode, use_bin_type=True)


def unpack(data: bytes) -> Any:
    """Decode a message; its arrays are writable copies."""
    return msgpack.unpackb(data, ext_hook=_decode, raw=False, strict_map_key=False, max_ext_len=_LIMIT)


def send(connection: socket.socket, message: Any) -> None:
    """Send one message.

    Raises:
        ConnectionClosedError: The other side has gone.
    """
    data = pack(message)
    try:
        connection.sendall(_LENGTH.pack(len(data)) + data)
    except (BrokenPipeError, ConnectionError) as error:
        raise ConnectionClosedError(str(error)) from error


def receive(connection: socket.socket) -> Any:
    """Wait for one message.

    Raises:
        ConnectionClosedError: The other side has gone, possibly in the middle of a message.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _LIMIT:
        raise ConnectionClosedError(f"a message of {length} bytes was announced")
    return unpack(_exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view, received = memoryview(data), 0
    while received < count:
        try:
            read = connection.recv_into(view[received:])
        except ConnectionError as error:
            raise ConnectionClosedError(str(error)) from error
        if read == 0:
            raise ConnectionClosedError("the connection was closed")
        received += read
    return bytes(data)


def _encode(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject or value.dtype.names:
            raise TypeError(f"an array of type {value.dtype} cannot be sent")
        header = msgpack.packb([value.dtype.str, list(value.shape)])
        return msgpack.ExtType(_ARRAY, _HEADER.pack(len(header)) + header + np.ascontiguousarray(value).tobytes())
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _decode(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown extension type {code}")
    (size,) = _HEADER.unpack_from(data)
    start = _HEADER.size + size
    dtype, shape = msgpack.unpackb(data[_HEADER.size : start])
    return np.frombuffer(data, np.dtype(dtype), offset=start).reshape(shape).copy()
