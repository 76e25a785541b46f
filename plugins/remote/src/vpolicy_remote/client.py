"""One connection to a policy server. Whatever goes wrong with it is one message that says what to do."""

from __future__ import annotations

import os
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from videopolicy import PolicyServerError
from videopolicy.parts.messages import MalformedMessageError, pack, unpack

KEY = "VPOLICY_API_KEY"
_CONNECTING = 10.0
_LARGEST = 2**26
"""Bytes of an answer."""
_SHOWN = 2000
"""Characters of a server's text."""


class Client:
    """A connection, made when it is first needed.

    Args:
        url: Of the server.
        timeout: Seconds that an answer may take.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self._timeout = url, timeout
        self._connection: ClientConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def greet(self) -> dict[Any, Any]:
        """Connect; what the server says of itself first.

        Raises:
            PolicyServerError: It cannot be reached, wants a key, or says something else.
        """
        key = os.environ.get(KEY)
        try:
            self._connection = connect(
                self.url,
                additional_headers={"Authorization": f"Api-Key {key}"} if key else None,
                compression=None,
                max_size=_LARGEST,
                open_timeout=_CONNECTING,
                close_timeout=1,
                proxy=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                hint = f"Put the server's key into {KEY}." if key is None else f"Correct the key in {KEY}."
                raise self._error(f"does not let us in (status {status})", hint) from None
            raise self._error(f"answers with status {status}", "Name the address of a policy server.") from None
        except (InvalidHandshake, InvalidURI, EOFError) as error:
            raise self._error(f"is no policy server: {error}", "Name the address of a policy server.") from None
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "nobody answers"
            raise self._error(f"cannot be reached: {reason}", "Start it, or correct policy.url.") from None
        said = self.receive(_CONNECTING)
        return said if isinstance(said, dict) else self._garbage(f"{type(said).__name__} in place of its description")

    def send(self, message: dict[str, Any]) -> None:
        """Raises PolicyServerError where the server has gone."""
        assert self._connection is not None
        try:
            self._connection.send(pack(message))
        except ConnectionClosed as error:
            raise self._closed(error) from None

    def receive(self, timeout: float | None = None) -> Any:
        """The answer to the message that was sent first and is not answered yet.

        Raises:
            PolicyServerError: There is none, it is an error of the server's, or nothing that can be read.
        """
        assert self._connection is not None
        seconds = timeout or self._timeout
        try:
            answer = self._connection.recv(seconds)
        except TimeoutError:
            raise self._error(
                f"has not answered for {seconds:g} s", "Look at the server, or raise policy.timeout."
            ) from None
        except ConnectionClosed as error:
            raise self._closed(error) from None
        if isinstance(answer, str):
            raise self._error(f"reports an error:\n{answer[:_SHOWN]}", "Correct the recipe's fields, or the server.")
        try:
            return unpack(answer)
        except MalformedMessageError as error:
            return self._garbage(f"what is no message. {error}")

    def _garbage(self, what: str) -> Any:
        raise self._error(f"sends {what}", "Name the address of a server of openpi's WebSocket protocol.")

    def _closed(self, error: ConnectionClosed) -> PolicyServerError:
        frame = error.rcvd
        reason = f": {frame.reason}" if frame and frame.reason else f" ({frame.code})" if frame else " without a word"
        return self._error(f"has closed the connection{reason}", "Look at the server, and run the same command again.")

    def _error(self, what: str, hint: str) -> PolicyServerError:
        return PolicyServerError(f"The policy server {self.url} {what}.", hint)
