"""Workers that send what no worker should: each such message is that worker's error and never the core's end."""

from __future__ import annotations

import copy
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hostile_worker import framed, hostile_worker, with_length
from vpolicy_worker import PROTOCOL
from vpolicy_worker.wire import pack

from videopolicy.errors import SimulationError
from videopolicy.simulators import process as simulation
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_simulator import ToySimulator

BENCHMARK = ToyBenchmark(timeout=10.0)
SIMULATOR = ToySimulator()
HELLO = SIMULATOR.hello()
GREETING = {"protocol": PROTOCOL, "hello": HELLO}
RESET = SIMULATOR.reset("red", 0)
STEP = SIMULATOR.step(np.zeros((2, 2), np.float32), [2])
DEMONSTRATION = SIMULATOR.demonstrate("red", 0, 0.0)
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reset": ({"task": "red", "episode": 0}, RESET),
    "step": ({"actions": np.zeros((2, 2), np.float32), "frames": [2]}, STEP),
    "demonstrate": ({"task": "red", "attempt": 0, "action_noise": 0.0}, DEMONSTRATION),
}


def pool_with(folder: Path, *said: bytes, **options: Any) -> WorkerPool:
    program = hostile_worker(folder / "worker", *said, **options)
    return WorkerPool(BENCHMARK.launch(), program, 1, folder, BENCHMARK.spaces(), BENCHMARK.max_steps)


def answered(result: Any, number: int = 1) -> bytes:
    return framed({"id": number, "result": result})


def changed(message: Any, path: str, value: Any = None) -> Any:
    """A copy with another value at a path such as ``observation/state``; without one the key is gone."""
    message = copy.deepcopy(message)
    *places, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    inner = message
    for place in places:
        inner = inner[place]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return message


def array(header: bytes, content: bytes = b"", code: int = 1) -> bytes:
    """A message with one array whose header says something else than what follows."""
    return with_length(msgpack.packb({"x": msgpack.ExtType(code, len(header).to_bytes(4, "big") + header + content)}))


NO_MESSAGES = {
    "nothing in it": with_length(b""),
    "an endless length": b"\xff" * 8,
    "eight gigabytes": (2**33).to_bytes(8, "big"),
    "one byte too many": (2**20 + 1).to_bytes(8, "big"),
    "no msgpack": with_length(b"\xc1" * 10),
    "cut in the middle": with_length(pack(GREETING)[:-3]),
    "more than one": with_length(pack(GREETING) * 2),
    "text that is not UTF-8": with_length(b"\x81\xa5hello\xa2\xff\xfe"),
    "a text of four gigabytes": with_length(b"\xdb\xff\xff\xff\xff"),
    "a list of four billions": with_length(b"\xdd\xff\xff\xff\xff"),
    "a mapping of four billions": with_length(b"\xdf\xff\xff\xff\xff"),
    "lists within lists": with_length(b"\x91" * 100_000),
    "a list as key": with_length(b"\x81\x91\x01\x01"),
    "very many mappings": with_length(b"\xdc\xff\xff" + (b"\x9f" + b"\x80" * 15) * 65_535),
    "an unknown kind of value": array(b"", code=7),
    "a timestamp of no length": with_length(b"\xc7\x03\xff123"),
    "an array without a header": with_length(b"\x81\xa1x\xc7\x00\x01"),
    "an array whose header is cut": with_length(msgpack.packb({"x": msgpack.ExtType(1, b"\x00\x00\x00\x09\x92")})),
    "an array whose header is no list": array(msgpack.packb(5)),
    "an array of objects": array(msgpack.packb(["|O", [1]]), b"\0" * 8),
    "an array of texts": array(msgpack.packb(["<U2", [1]]), b"\0" * 8),
    "an array of records": array(msgpack.packb(["f4,f4", [1]]), b"\0" * 8),
    "an array of an unknown type": array(msgpack.packb(["nonsense", [1]]), b"\0" * 8),
    "an array of another size": array(msgpack.packb(["<f4", [3]]), b"\0" * 8),
    "an array with a negative side": array(msgpack.packb(["<f4", [-1]]), b"\0" * 8),
    "an array with a huge side": array(msgpack.packb(["<f4", [2**62, 4]]), b"\0" * 8),
    "an array whose shape is a text": array(msgpack.packb(["<f4", "12"]), b"\0" * 8),
    "an array with a fractional side": array(msgpack.packb(["<f4", [2.0]]), b"\0" * 8),
}
GREETINGS: dict[str, Any] = {
    "a list": [PROTOCOL, HELLO],
    "a number": 5,
    "none": None,
    "an array": np.zeros(3),
    "empty": {},
    "without a protocol": {"hello": HELLO},
    "an array as protocol": {"protocol": np.array([1, 1]), "hello": HELLO},
    "true as protocol": {"protocol": True, "hello": HELLO},
    "without a hello": {"protocol": PROTOCOL},
    "a text as hello": {"protocol": PROTOCOL, "hello": "hello"},
    "without spaces": changed(GREETING, "hello/spaces"),
    "without cameras": changed(GREETING, "hello/spaces/cameras"),
    "an array as cameras": changed(GREETING, "hello/spaces/cameras", np.zeros(3)),
    "an array as control": changed(GREETING, "hello/spaces/actions/control", np.zeros(3)),
    "a text as height": changed(GREETING, "hello/spaces/cameras/0/height", "high"),
    "a number as versions": changed(GREETING, "hello/versions", 3),
    "an error without a traceback": {"protocol": PROTOCOL, "error": "no"},
    "an array as error": {"protocol": PROTOCOL, "error": np.zeros(3), "traceback": np.zeros(3)},
    "control characters": {"protocol": PROTOCOL, "error": "\x1b[2J\x07gone", "traceback": "\x1b]0;title\x07"},
}
MESSAGES: dict[str, Any] = {
    "a list": [1],
    "none": None,
    "empty": {},
    "an answer without a result": {"id": 1},
    "an answer to another call": {"id": 7, "result": RESET},
    "an answer to no number": {"id": np.zeros(2), "result": RESET},
    "a text as result": {"id": 1, "result": "done"},
    "none as result": {"id": 1, "result": None},
    "a greeting": GREETING,
}
NAN = np.array([0.1, np.nan], np.float32)
PICTURE = RESET["observation"]["images"]["top"]
ANSWERS: dict[str, tuple[str, Any, str]] = {
    "no observation": ("reset", changed(RESET, "observation"), "'observation' is missing"),
    "a list as observation": ("reset", changed(RESET, "observation", [1]), "the observation is a list, not a mapping"),
    "no images": ("reset", changed(RESET, "observation/images"), "'images' is missing"),
    "no camera": ("reset", changed(RESET, "observation/images", {}), "has pictures of no camera, not of top"),
    "another camera": (
        "reset",
        changed(RESET, "observation/images/side", PICTURE),
        "pictures of top, side, not of top",
    ),
    "a picture as text": ("reset", changed(RESET, "observation/images/top", "x"), "is 'x', not (16, 16, 3) uint8"),
    "a small picture": (
        "reset",
        changed(RESET, "observation/images/top", PICTURE[:8]),
        "camera 'top' in the observation is (8, 16, 3) uint8, not (16, 16, 3) uint8",
    ),
    "a picture of floats": (
        "reset",
        changed(RESET, "observation/images/top", PICTURE / np.float32(255)),
        "is (16, 16, 3) float32, not (16, 16, 3) uint8",
    ),
    "channels first": (
        "reset",
        changed(RESET, "observation/images/top", PICTURE.transpose(2, 0, 1)),
        "is (3, 16, 16) uint8",
    ),
    "no state": ("reset", changed(RESET, "observation/state"), "'state' is missing"),
    "NaN in the state": ("reset", changed(RESET, "observation/state", NAN), "the state in the observation holds NaN"),
    "a state of doubles": ("reset", changed(RESET, "observation/state", np.zeros(2)), "(2,) float64, not (2,) float32"),
    "a long state": ("reset", changed(RESET, "observation/state", np.zeros(3, np.float32)), "(3,) float32, not (2,)"),
    "no initial state": ("reset", changed(RESET, "initial_state"), "'initial_state' is missing"),
    "a number as initial state": ("reset", changed(RESET, "initial_state", 7), "'initial_state' is 7, not"),
    "an empty initial state": ("reset", changed(RESET, "initial_state", ""), "'initial_state' is '', not"),
    "no done": ("step", changed(STEP, "done"), "'done' is missing"),
    "a number as done": ("step", changed(STEP, "done", 1), "'done' is 1, not true or false"),
    "no success": ("step", changed(STEP, "success"), "'success' is missing"),
    "a text as success": ("step", changed(STEP, "success", "no"), "'success' is 'no', not true or false"),
    "a float as success": ("step", changed(STEP, "success", 0.5), "'success' is 0.5, not true or false"),
    "negative steps": ("step", changed(STEP, "steps", -1), "'steps' is -1, of 2 actions"),
    "too many steps": ("step", changed(STEP, "steps", 3), "'steps' is 3, of 2 actions"),
    "half a step": ("step", changed(STEP, "steps", 1.0), "'steps' is 1.0, of 2 actions"),
    "no step and no end": (
        "step",
        STEP | {"steps": 0, "observations": {}},
        "0 of 2 actions were executed, and neither 'done' nor 'success'",
    ),
    "an array as score": ("step", changed(STEP, "score", np.zeros(1)), "'score' is (1,) float64, not a finite number"),
    "NaN as score": ("step", changed(STEP, "score", float("nan")), "'score' is nan, not a finite number"),
    "no observations": ("step", changed(STEP, "observations"), "'observations' is missing"),
    "a wanted observation missing": ("step", changed(STEP, "observations", {}), "holds nothing; after 2 steps [2]"),
    "an observation nobody wanted": (
        "step",
        STEP | {"observations": {1: RESET["observation"], 2: RESET["observation"]}},
        "'observations' holds 1, 2; after 2 steps [2] were asked for",
    ),
    "NaN after an action": (
        "step",
        changed(STEP, "observations/2/state", NAN),
        "the state in the observation after action 2 holds NaN or infinity",
    ),
    "no actions": ("demonstrate", changed(DEMONSTRATION, "actions"), "'actions' is missing"),
    "wide actions": (
        "demonstrate",
        changed(DEMONSTRATION, "actions", np.zeros((4, 3), np.float32)),
        "'actions' is (4, 3) float32, not floating-point numbers of shape (n, 2)",
    ),
    "actions that are NaN": (
        "demonstrate",
        changed(DEMONSTRATION, "actions", np.full_like(DEMONSTRATION["actions"], np.nan)),
        "'actions' holds NaN",
    ),
    "fewer pictures than actions": (
        "demonstrate",
        changed(DEMONSTRATION, "images/top", DEMONSTRATION["images"]["top"][:-1]),
        "the picture of camera 'top' in the demonstration is",
    ),
    "a success of no actions": (
        "demonstrate",
        DEMONSTRATION | {"actions": np.zeros((0, 2), np.float32), "success": True},
        "a demonstration without an action is called a success",
    ),
    "states that are NaN": (
        "demonstrate",
        changed(DEMONSTRATION, "states", np.full_like(DEMONSTRATION["states"], np.nan)),
        "'states' holds NaN",
    ),
    "fewer states than actions": (
        "demonstrate",
        changed(DEMONSTRATION, "states", DEMONSTRATION["states"][:-1]),
        "'states' is",
    ),
    "states of single precision": (
        "demonstrate",
        changed(DEMONSTRATION, "states", DEMONSTRATION["states"].astype(np.float32)),
        "float64 numbers",
    ),
    "states without end": (
        "demonstrate",
        changed(DEMONSTRATION, "states", np.zeros((len(DEMONSTRATION["states"]), 2049))),
        "hold 2049 numbers a step, of at most 2048",
    ),
    "an array that would take another's place": (
        "demonstrate",
        DEMONSTRATION | {"arrays": {"obs/../actions": DEMONSTRATION["states"]}},
        "'arrays' has the key 'obs/../actions'",
    ),
    "an array that takes the place of the pictures": (
        "demonstrate",
        DEMONSTRATION | {"arrays": {"actions": DEMONSTRATION["states"]}},
        "'arrays' has the key 'actions'",
    ),
    "facts that are none": ("demonstrate", DEMONSTRATION | {"facts": {"expert": None}}, "'facts' has None under"),
    "facts that no file can hold": ("demonstrate", DEMONSTRATION | {"facts": {"expert": "a\0"}}, "'facts' has"),
    "an empty sentence": ("demonstrate", DEMONSTRATION | {"instruction": " "}, "'instruction' is ' ', not a sentence"),
}


@pytest.mark.parametrize("kind", NO_MESSAGES)
def test_bytes_that_are_no_message(tmp_path, kind):
    tracemalloc.start()
    try:
        for name, said in {"greeting": (NO_MESSAGES[kind],), "answer": (framed(GREETING), NO_MESSAGES[kind])}.items():
            (tmp_path / name).mkdir()
            with pool_with(tmp_path / name, *said) as pool:
                with pytest.raises(SimulationError, match=r"Worker 0 of 'toy' \(process \d+\) sent ") as caught:
                    pool.call(0, "hello")
                assert caught.value.exit_code == 2 and len(caught.value.message) < 1000
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", GREETINGS)
def test_greetings_that_are_none(tmp_path, kind):
    with (
        pool_with(tmp_path, framed(GREETINGS[kind])) as pool,
        pytest.raises(SimulationError, match="Worker 0") as caught,
    ):
        pool.call(0, "hello")
    assert all(line.isprintable() for line in caught.value.message.splitlines())


@pytest.mark.parametrize("kind", MESSAGES)
def test_messages_that_are_no_answer(tmp_path, kind):
    with (
        pool_with(tmp_path, framed(GREETING), framed(MESSAGES[kind])) as pool,
        pytest.raises(SimulationError, match="sent a wrong answer to 'reset'"),
    ):
        pool.call(0, "reset", task="red", episode=0)


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_that_break_the_contract(tmp_path, kind):
    method, answer, complaint = ANSWERS[kind]
    arguments, sound = CALLS[method]
    with pool_with(tmp_path, framed(GREETING), answered(sound), answered(answer, 2)) as pool:
        assert pool.call(0, method, **arguments).keys() == sound.keys()
        with pytest.raises(SimulationError, match=f"sent a wrong answer to '{method}'") as caught:
            pool.call(0, method, **arguments)
        assert complaint in caught.value.message
        # The next call gets a new worker.
        assert pool.call(0, method, **arguments).keys() == sound.keys()


def test_a_picture_is_left_out_only_where_none_was_wanted(tmp_path):
    blind = SIMULATOR.reset("red", 0, images=False)
    with pool_with(tmp_path, framed(GREETING), answered(blind), answered(blind, 2)) as pool:
        assert pool.call(0, "reset", task="red", episode=0, images=False)["observation"]["images"] == {}
        with pytest.raises(SimulationError, match="has pictures of no camera, not of top"):
            pool.call(0, "reset", task="red", episode=0)


def test_a_message_nobody_asked_for_is_no_answer_to_the_next_call(tmp_path):
    with pool_with(tmp_path, framed(GREETING), answered(RESET) + answered(RESET, 2), answered(RESET, 2)) as pool:
        pool.call(0, "reset", task="red", episode=0)
        time.sleep(0.2)
        with pytest.raises(SimulationError, match="sent a message that no call asked for"):
            pool.call(0, "reset", task="red", episode=1)


def test_a_worker_that_goes_while_it_is_idle_answers_the_next_call_with_an_error(tmp_path):
    with pool_with(tmp_path, framed(GREETING), answered(RESET)) as pool:
        pool.call(0, "reset", task="red", episode=0)
        pool._workers[0].process.kill()
        pool._workers[0].process.wait()
        # A new process knows nothing of the episode: it must not be asked to go on with it.
        with pytest.raises(SimulationError, match=r"died while it waited for a call \(signal SIGKILL\)"):
            pool.call(0, "step", **CALLS["step"][0])
        assert pool.call(0, "reset", task="red", episode=0)["initial_state"]


def test_a_message_that_drips_in_has_the_time_of_an_answer_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "_GRACE", 0.2)
    spec = BENCHMARK.launch().model_copy(update={"start_timeout": 0.5})
    program = hostile_worker(tmp_path / "worker", framed(GREETING), at_once=1, pause=0.1)
    began = time.monotonic()
    with (
        WorkerPool(spec, program, 1, tmp_path) as pool,
        pytest.raises(SimulationError, match=r"did not answer within 0\.5 s while it started"),
    ):
        pool.call(0, "hello")
    assert time.monotonic() - began < 5.0


def test_a_whole_message_in_many_pieces_is_understood(tmp_path):
    with pool_with(tmp_path, framed(GREETING), answered(RESET), at_once=97) as pool:
        seen = pool.call(0, "reset", task="red", episode=0)["observation"]["images"]["top"]
        np.testing.assert_array_equal(seen, PICTURE)


def test_answers_longer_than_agreed_are_not_read(tmp_path):
    """What was agreed: one picture of 16 by 16 pixels, for every frame that was asked for."""
    large = changed(STEP, "observations/2/images/top", np.zeros((1024, 1024, 3), np.uint8))
    with (
        pool_with(tmp_path, framed(GREETING), answered(large)) as pool,
        pytest.raises(SimulationError, match=r"a message of \d+ bytes was announced, at most 10\d{5} were agreed"),
    ):
        pool.call(0, "step", **CALLS["step"][0])
