"""``vpolicy serve``: robots share forward passes, keep states of their own, and harm nobody with what they send."""

from __future__ import annotations

import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from serving import TOY, Running, connected, deployed, question, served, told
from torch import Tensor
from websockets.exceptions import ConnectionClosed, InvalidStatus

from videopolicy import Batch, Observation, Policy, PolicyServerError, RowGenerator, Window, normal_noise
from videopolicy.deployment import DeployedPolicy
from videopolicy.parts.messages import pack, unpack
from videopolicy.serving.questions import largest_message
from videopolicy.serving.server import bound
from videopolicy.testing.toy_models import ToyReflex

SPACES = TOY.spaces()


class Counting(Policy):
    """Answers how often it was asked for a row since the last reset, and says what it was asked."""

    window = Window(horizon=6)

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds, self.asked, self.counts = seconds, [], {}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def reset(self, rows: list[int]) -> None:
        for row in rows:
            self.counts[row] = 0

    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        assert observation.rows is not None
        self.asked.append((observation.rows, len(observation)))
        time.sleep(self.seconds)
        if any(observation.instructions[row] == "fail" for row in observation.rows):
            raise ValueError("a sentence that no policy likes")
        found = torch.zeros(len(observation), 6, 2)
        for row in observation.rows:
            self.counts[row] = self.counts.get(row, 0) + 1
            found[row, :, 0] = self.counts[row] / 100
            found[row, :, 1] = torch.arange(6) / 10
        return found + 0.0 * normal_noise((len(observation), 6, 2), found, generator)


def reflex() -> DeployedPolicy:
    torch.manual_seed(0)
    return deployed(ToyReflex(Window(horizon=4), 1, 2))


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with served(reflex()) as found:
        yield found


def asked_alone(policy: DeployedPolicy, questions: list[dict[str, Any]], seed: int = 0) -> list[np.ndarray]:
    policy.reset(seed)
    return [
        policy.act(
            {one.name: asked[f"observation/{one.name}"] for one in SPACES.cameras},
            asked["observation/state"],
            asked["prompt"],
        )
        for asked in questions
    ]


def fetched(running: Running, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{running.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def questions_of(client: int, count: int = 5) -> list[dict[str, Any]]:
    draw = np.random.default_rng(client)
    return [question(SPACES, draw) for _ in range(count)]


def test_the_policy_is_described_first_and_acts_as_in_python(running: Running) -> None:
    asked = questions_of(0)
    with connected(running) as (connection, said):
        assert said["horizon"] == 4 and said["execute"] == 2 and said["policy"] == "toy"
        (camera,) = SPACES.cameras
        assert said["keys"] == [f"observation/{camera.name}", "observation/state", "prompt"]
        assert said["spaces"] == SPACES.model_dump(mode="json") | {"actions": said["spaces"]["actions"]}
        answers = [told(connection, one) for one in asked]
        again = [told(connection, {"endpoint": "reset", "seed": 0}), *(told(connection, one) for one in asked)]
    expected = asked_alone(reflex(), asked)
    assert not np.array_equal(expected[0], expected[1])
    for answer, actions in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(answer["actions"], actions)
        assert answer["actions"].dtype == np.float32 and answer["server_timing"]["infer_ms"] > 0
    assert "prev_total_ms" in answers[1]["server_timing"]
    assert again[0] == {"status": "reset successful"}
    np.testing.assert_array_equal(again[1]["actions"], expected[0])


def test_robots_share_passes_and_are_answered_as_if_alone() -> None:
    policy = deployed(Counting(seconds=0.02))
    with served(policy, rows=8) as running:

        def client(number: int) -> list[float]:
            with connected(running) as (connection, _):
                together.wait(10)
                found = [told(connection, asked)["actions"] for asked in questions_of(number, 6)]
            return [round(float(one[0, 0]) * 100) for one in found]

        together = threading.Barrier(8)
        passes = policy.actor.policy.asked
        passes.clear()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(client, range(8))) == [[1, 2, 3, 4, 5, 6]] * 8
    assert all(size == 8 for _, size in passes[:3])
    assert sum(len(rows) for rows, _ in passes) == 48 and len(passes) <= 16, [len(rows) for rows, _ in passes]


def test_what_robots_share_reaches_no_other_robots_noise(running: Running) -> None:
    together = threading.Barrier(4)

    def client(number: int) -> list[np.ndarray]:
        with connected(running) as (connection, _):
            told(connection, {"endpoint": "reset", "seed": number})
            together.wait(10)
            return [told(connection, asked)["actions"] for asked in questions_of(number)]

    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(client, range(4)))
    for number in range(4):
        np.testing.assert_allclose(shared[number], asked_alone(reflex(), questions_of(number), number), atol=1e-6)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("infer", "A text has arrived"),
        (b"", "cannot be decoded"),
        (b"\xc1", "cannot be decoded"),
        (pack([1]), "not list"),
        (pack({}), "There is no image of camera"),
        (pack({"endpoint": "resett"}), "Did you mean 'reset'"),
        (pack({"endpoint": "reset", "seed": -1}), "'seed' is -1"),
        (pack({"endpoint": "prefetch", "execute": 3}), "from 0 to 2"),
        (pack({"observation/state": [0.0, 0.0]}), "'observation/state' is list, not an array"),
        (pack({**questions_of(0)[0], "prompt": "go" * 4000}), "8000 characters"),
        (pack({**questions_of(0)[0], "prompt": ""}), "conditioned on one"),
        (pack({**questions_of(0)[0], "observation/state": np.zeros(3)}), r"(1, 2) is wanted"),
        (pack({**questions_of(0)[0], "observation/state": np.full(2, np.nan)}), "NaN or infinite"),
    ],
)
def test_what_a_robot_sends_wrongly_is_answered_with_a_text(running: Running, message: Any, answer: str) -> None:
    with connected(running) as (connection, _):
        found = told(connection, message)
        assert isinstance(found, str) and answer in found and len(found.splitlines()) > 1
        assert told(connection, questions_of(0)[0])["actions"].shape == (4, 2)


@pytest.mark.parametrize("dtype", ["|O", "O", "<c16", "|V4", "<U1", "|S4", "f4,f4", "<M8[s]"])
def test_arrays_of_anything_but_numbers_are_never_made(running: Running, dtype: str) -> None:
    array = {b"__ndarray__": True, b"data": bytes(16), b"dtype": dtype, b"shape": [4]}
    with connected(running) as (connection, _):
        assert "an array of type" in told(connection, msgpack.packb({"observation/state": array}))
    with pytest.raises(TypeError, match="cannot be sent"):
        pack(np.array([None, {}], object))


def test_arrays_come_back_as_they_were() -> None:
    arrays = [np.arange(6, dtype=kind).reshape(2, 3) for kind in ("<f4", ">f8", "i8", "u1", "<f2")]
    for array in [*arrays, np.zeros((0, 3)), np.array(2.5), np.array([True, False])]:
        back = unpack(pack({"x": array}))["x"]
        assert back.shape == array.shape and np.array_equal(back, array) and back.dtype.isnative
    assert unpack(pack(np.float32(0.5))) == np.float32(0.5)


def test_a_policy_that_fails_for_one_robot_answers_the_others() -> None:
    with served(deployed(Counting(seconds=0.05)), rows=2) as running:
        with connected(running) as (good, _), connected(running) as (bad, _):
            bad.send(pack(question(SPACES, np.random.default_rng(0), prompt="fail")))
            for number in range(1, 4):
                assert round(float(told(good, questions_of(0)[0])["actions"][0, 0]) * 100) == number
            assert "a sentence that no policy likes" in bad.recv(10)
            with pytest.raises(ConnectionClosed) as closed:
                bad.recv(10)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
        assert any("a sentence that no policy likes" in line for line in running.lines)
        assert 'vpolicy_errors_total{kind="policy"} 1.0' in fetched(running, "/metrics")[1]


def test_health_and_latencies_are_told(running: Running) -> None:
    assert fetched(running, "/healthz") == (200, "OK\n")
    with connected(running) as (connection, _):
        before = float(fetched(running, "/metrics")[1].split("vpolicy_answer_seconds_count ")[1].split()[0])
        told(connection, questions_of(0)[0])
        status, text = fetched(running, "/metrics")
    assert status == 200 and 'vpolicy_answer_seconds_bucket{le="0.005"}' in text
    assert float(text.split("vpolicy_answer_seconds_count ")[1].split()[0]) == before + 1
    assert "vpolicy_robots 1.0" in text


def test_a_key_is_checked() -> None:
    with served(reflex(), key="open sesame") as running:
        assert fetched(running, "/healthz")[0] == 200
        assert fetched(running, "/metrics")[0] == 401
        assert fetched(running, "/metrics", Authorization="Api-Key open sesame")[0] == 200
        for wrong in ({}, {"Authorization": "Api-Key open sesam"}, {"Authorization": "Bearer open sesame"}):
            with pytest.raises(InvalidStatus, match="401"), connected(running, additional_headers=wrong):
                pass
        with connected(running, additional_headers={"Authorization": "Api-Key open sesame"}) as (connection, _):
            assert told(connection, questions_of(0)[0])["actions"].shape == (4, 2)


def test_pages_in_a_browser_cannot_connect(running: Running) -> None:
    with pytest.raises(InvalidStatus, match="403"), connected(running, origin="https://example.org"):
        pass


def test_other_machines_need_a_key_and_a_port_is_free() -> None:
    with pytest.raises(PolicyServerError, match="without a key"):
        bound("0.0.0.0", 0, None)
    with bound("0.0.0.0", 0, "key"), bound("127.0.0.1", 0, None) as taken:
        taken.listen()
        with pytest.raises(PolicyServerError, match="cannot be had"):
            bound("127.0.0.1", taken.getsockname()[1], None)
    with pytest.raises(PolicyServerError, match="no address"):
        bound("no.such.host.invalid", 0, None)


def test_places_are_counted_and_given_again() -> None:
    with served(reflex(), rows=2) as running:
        with connected(running) as (first, _), connected(running):
            with pytest.raises(ConnectionClosed, match="places are taken"), connected(running):
                pass
            told(first, questions_of(0)[0])
        with connected(running) as (connection, _):
            assert told(connection, questions_of(0)[0])["actions"].shape == (4, 2)


def test_a_robot_moves_to_a_lower_row_with_its_next_episode() -> None:
    policy = deployed(Counting())
    with served(policy) as running, connected(running) as (low, _), connected(running) as (high, _):
        told(high, questions_of(0)[0])
        assert policy.actor.policy.asked[-1] == ((1,), 2)
        low.close()
        assert round(float(told(high, questions_of(0)[0])["actions"][0, 0]) * 100) == 2
        told(high, {"endpoint": "reset"})
        assert round(float(told(high, questions_of(0)[0])["actions"][0, 0]) * 100) == 1
        assert policy.actor.policy.asked[-1] == ((0,), 1)


def test_large_slow_and_vanished_clients_harm_nobody(running: Running) -> None:
    with connected(running) as (good, _), connected(running, max_size=None) as (large, _):
        large.send(bytes(largest_message(reflex()) + 1))
        with pytest.raises(ConnectionClosed) as closed:
            large.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
        for _ in range(3):  # go without a word, in the middle of a question
            with connected(running) as (vanished, _):
                vanished.send(pack(questions_of(1)[0]))
                vanished.socket.shutdown(socket.SHUT_RDWR)
        with socket.create_connection(("127.0.0.1", running.port)) as half, connected(running) as (slow, _):
            half.sendall(b"GET / HTTP/1.1\r\n")  # never ends its request
            for _ in range(50):  # never reads its answers
                slow.send(pack(questions_of(2)[0]))
            started = time.perf_counter()
            for asked in questions_of(3, 20):
                assert told(good, asked)["actions"].shape == (4, 2)
            assert time.perf_counter() - started < 10


def test_a_thousand_malformed_messages_leave_the_server_answering(running: Running) -> None:
    draw = random.Random(0)
    sound = pack(questions_of(0)[0])
    answers = 0
    for _ in range(20):
        with connected(running) as (connection, _):
            for _ in range(50):
                message = bytearray(sound)
                for _ in range(draw.choice([1, 3, 30])):
                    place = draw.randrange(draw.choice([40, len(message)]))
                    message[place] = draw.randrange(256)
                kind = draw.random()
                if kind < 0.2:
                    message = message[: draw.randrange(len(message))]
                elif kind < 0.4:
                    message = bytearray(draw.randbytes(draw.randrange(200)))
                elif kind < 0.5:
                    message = bytearray(b"\x91" * draw.randrange(1, 5000))  # lists in lists
                elif kind < 0.6:
                    message = bytearray(b"\xdd\xff\xff\xff\xff" + message)  # a list that is said to be long
                answer = told(connection, bytes(message))
                answers += isinstance(answer, str) or answer["actions"].shape == (4, 2)
    assert answers == 1000
    with connected(running) as (connection, _):
        np.testing.assert_array_equal(
            told(connection, questions_of(0)[0])["actions"], asked_alone(reflex(), questions_of(0)[:1])[0]
        )
    assert fetched(running, "/healthz") == (200, "OK\n") and running.lines == []


def test_the_next_chunk_is_planned_while_one_is_executed() -> None:
    with served(deployed(Counting(seconds=0.2))) as running, connected(running) as (connection, _):
        assert told(connection, {"endpoint": "prefetch", "execute": 2}) == {"status": "prefetch", "execute": 2}
        asked = questions_of(0, 5)
        first = told(connection, asked[0])
        assert first["actions"].shape == (4, 2) and first["delay"]["steps"] == 0 and first["delay"]["ms"] > 150
        second = told(connection, asked[1])  # goes on with the first plan
        np.testing.assert_allclose(second["actions"][:, 1], [0.2, 0.3, 0.4, 0.5], atol=1e-6)
        assert round(float(second["actions"][0, 0]) * 100) == 1 and second["delay"]["steps"] == 2
        time.sleep(0.4)  # the robot executes
        started = time.perf_counter()
        third = told(connection, asked[2])
        assert time.perf_counter() - started < 0.15, "the plan was there"
        assert round(float(third["actions"][0, 0]) * 100) == 2 and third["delay"]["ms"] > 350
        started = time.perf_counter()
        other = told(connection, {**asked[3], "prompt": "go to the blue square"})  # nothing old is of use
        assert other["delay"]["steps"] == 0 and time.perf_counter() - started > 0.15
        told(connection, {"endpoint": "reset"})
        assert told(connection, asked[4])["delay"]["steps"] == 0
        told(connection, {"endpoint": "prefetch", "execute": 0})
        assert "delay" not in told(connection, asked[0])
