from __future__ import annotations

import socket
import threading
import tracemalloc

import numpy as np
import pytest

from vpolicy_worker.wire import ConnectionClosedError, MalformedMessageError, pack, receive, send, unpack


def test_messages_survive_a_socket():
    ours, theirs = socket.socketpair()
    message = {
        "frames": np.arange(2 * 300 * 300 * 3, dtype=np.uint8).reshape(2, 300, 300, 3),  # more than a socket's buffer
        "state": np.array([0.1, np.nan, -np.inf], np.float32),
        "empty": np.zeros((0, 4)),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "by_step": {3: "three", 7: None},
        "scalar": np.float64(0.5),
        "flag": np.bool_(True),
        "text": "Türe öffnen",
        "big": 2**63,
    }
    sender = threading.Thread(target=send, args=(ours, message))
    sender.start()
    answer = receive(theirs)
    sender.join()
    assert list(answer) == list(message)
    for name in ("frames", "state", "empty", "columns"):
        np.testing.assert_array_equal(answer[name], message[name])
        assert answer[name].dtype == message[name].dtype
    assert answer["by_step"] == {3: "three", 7: None}
    assert (answer["scalar"], answer["flag"], answer["text"], answer["big"]) == (0.5, True, "Türe öffnen", 2**63)
    answer["frames"][0] = 0  # an own, writable copy


@pytest.mark.parametrize("value", [np.array([object()]), np.zeros(2, [("a", int)]), object(), {1, 2}])
def test_what_would_need_pickle_is_refused(value):
    with pytest.raises(TypeError, match="cannot be sent"):
        pack({"value": value})


def test_a_lost_connection_is_noticed_in_the_middle_of_a_message():
    ours, theirs = socket.socketpair()
    ours.sendall((1000).to_bytes(8, "big") + b"only a part")
    ours.close()
    with pytest.raises(ConnectionClosedError):
        receive(theirs)


def test_nothing_is_allocated_because_a_length_was_announced():
    ours, theirs = socket.socketpair()
    ours.sendall((2**33).to_bytes(8, "big") + b"only a part")
    ours.close()
    tracemalloc.start()
    with pytest.raises(ConnectionClosedError):
        receive(theirs)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_more_than_was_agreed_is_not_read():
    ours, theirs = socket.socketpair()
    send(ours, {"pixels": np.zeros(1000, np.uint8)})
    with pytest.raises(
        MalformedMessageError, match=r"a message of 10\d\d bytes was announced, at most 1000 were agreed"
    ):
        receive(theirs, 1000)


def test_arrays_come_back_as_they_were_packed():
    array = np.random.default_rng(0).standard_normal((3, 4)).astype(">f4")
    np.testing.assert_array_equal(unpack(pack(array)), array)
