"""The policy `remote`: our own server's under the toy benchmark, and servers that are none."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import vpolicy
from pydantic import ValidationError
from rollouts import play
from serving import deployed, served
from vpolicy_remote.adapter import Adapter, padded
from vpolicy_remote.components import Remote
from websockets.sync.server import ServerConnection, serve

from videopolicy import ActionSpace, Camera, PolicyServerError, Spaces, StateSpace, Window
from videopolicy.parts.messages import pack, unpack
from videopolicy.recipes.recipe import load_recipe
from videopolicy.testing import toy_benchmark, toy_observation
from videopolicy.testing.component_contract import generators
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_models import ToyReflex

WINDOW = Window(horizon=4)
RECIPE = """\
plugins: [{toy}]
benchmark: {{type: toy, task_names: [red, blue], max_steps: 12}}
policy: {{type: remote, url: "{url}", horizon: 4{options}}}
eval: {{episodes: 3, execute: 3, workers: 1, batch_size: 2}}
tracking: []
"""


def reflex() -> ToyReflex:
    torch.manual_seed(0)
    return ToyReflex(WINDOW, 1, 2)


def remote(url: str, **options: Any) -> Remote:
    return Remote.model_validate({"url": url, "horizon": 4, **options})


def written(folder: Path, url: str, options: str = "") -> Path:
    path = folder / "served.yaml"
    path.write_text(RECIPE.format(toy=toy_benchmark.__file__, url=url, options=options), encoding="utf-8")
    return path


@contextmanager
def server(handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    """Somebody's server on this machine."""
    with serve(handler, "127.0.0.1", 0, **options) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}"
        finally:
            running.shutdown()
            thread.join(10)


def answering(*answers: Any, first: Any = None) -> Callable[[ServerConnection], None]:
    """A handler that says these things one after the other, whatever it is asked."""

    def handler(connection: ServerConnection) -> None:
        connection.send(pack({}) if first is None else first)
        for answer in answers:
            connection.recv()
            connection.send(answer if isinstance(answer, bytes | str) else pack(answer))
        for _ in connection:
            pass

    return handler


def test_a_served_policy_repeats_its_local_evaluation(tmp_path: Path) -> None:
    toy = ToyBenchmark(task_names=("red", "blue"), chain=2, max_steps=9)
    local = play(tmp_path / "local", reflex(), toy, batch_size=2, episodes=3)
    with served(deployed(reflex()), rows=2) as running:
        policy = remote(running.url).build(toy.spaces())
        there = play(tmp_path / "remote", policy, toy, batch_size=2, episodes=3)
    for ours, theirs in zip(local[0], there[0], strict=True):
        assert ours.model_copy(update={"seconds": 0.0}) == theirs.model_copy(update={"seconds": 0.0})
    assert len(local[1]) == 6 and local[1].keys() == there[1].keys()
    for name, actions in local[1].items():
        assert np.array_equal(actions, there[1][name])


def test_a_recipe_without_training_is_run_and_compared(tmp_path: Path) -> None:
    toy = ToyBenchmark(task_names=("red", "blue"), max_steps=12)
    local, _ = play(tmp_path / "local", reflex(), toy, batch_size=2, episodes=3)
    with served(deployed(reflex()), rows=2) as running:
        path = written(tmp_path, running.url)
        done = vpolicy(tmp_path, "run", str(path), VPOLICY_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "runs" / "served" / "episodes.jsonl").read_text().splitlines()
    found = {(one["task"], one["episode"]): one for one in map(json.loads, lines)}
    assert len(found) == len(local) == 6
    for record in local:
        other = found[record.task, record.episode]
        assert (other["success"], other["score"], other["steps"]) == (record.success, record.score, record.steps)
    assert (tmp_path / "runs" / "served" / "report.html").is_file()


def asked(url: str, spaces: Spaces | None = None, **options: Any) -> None:
    spaces = spaces or ToyBenchmark().spaces()
    component = remote(url, timeout=0.5, **options)
    component.build(spaces).act(toy_observation(spaces, component.window(), batch_size=1), generators(1))


WRONG = [
    (lambda connection: connection.close(), "has closed the connection"),
    (answering(first="hello"), "reports an error:\nhello"),
    (answering(first=b"\xc1"), "sends what is no message"),
    (answering(first=pack([1])), "sends list in place of its description"),
    (answering("Traceback: no such key"), "no such key"),
    (answering(b"\x93\x01"), "sends what is no message"),
    (answering({"action": np.zeros((4, 2))}), "without 'actions', but with action"),
    (answering({"actions": np.zeros((4, 7))}), r"shape \(4, 7\), and \(4 or more, 2\)"),
    (answering({"actions": np.zeros((3, 2))}), r"shape \(3, 2\), and \(4 or more, 2\)"),
    (answering({"actions": np.full((4, 2), np.nan)}), "NaN or infinity"),
    (answering({"actions": "go"}), "something else than numbers"),
    (answering(), "has not answered for 0.5 s"),
]


@pytest.mark.parametrize(("handler", "message"), WRONG)
def test_a_server_that_is_none_is_one_clear_message(handler: Callable[[ServerConnection], None], message: str) -> None:
    with server(handler) as url, pytest.raises(PolicyServerError, match=message) as caught:
        asked(url, reset="none")
    assert url in caught.value.message and caught.value.hint


def test_nobody_there_and_a_missing_key_are_said_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = vpolicy(tmp_path, "check", str(written(tmp_path, "ws://127.0.0.1:9")))
    assert "cannot be reached" in done.stdout + done.stderr and "policy.url" in done.stdout + done.stderr
    with served(deployed(reflex()), key="secret") as running:
        for key, said in ((None, "does not let us in"), ("wrong", "Correct the key")):
            if key is not None:
                monkeypatch.setenv("VPOLICY_API_KEY", key)
            with pytest.raises(PolicyServerError, match=said):
                remote(running.url).fetch()
        monkeypatch.setenv("VPOLICY_API_KEY", "secret")
        remote(running.url).fetch()


def test_another_width_or_horizon_is_named_at_the_handshake() -> None:
    with served(deployed(reflex())) as running:
        with pytest.raises(PolicyServerError, match=r"action names is .* in the server .* and .* in the benchmark"):
            asked(running.url, ToyBenchmark(action_dim=4).spaces())
        with pytest.raises(PolicyServerError, match=r"horizon is 4 in the server .* and policy.horizon is 5"):
            asked(running.url, horizon=5)
        with pytest.raises(PolicyServerError, match=r"frames \[0\] and policy.observed is \[-2, 0\]"):
            asked(running.url, observed=[-2, 0])


SIDES = ActionSpace(
    names=("x", "gripper"), low=(-1, -1), high=(1, 1), control="velocity", gripper="positive_opens", rate=10
)
LIBERO = Spaces(
    cameras=tuple(Camera(name=name, height=64, width=128) for name in ("agentview", "robot0_eye_in_hand")),
    state=StateSpace(names=("gripper_states_0", "gripper_states_1", *(f"ee_states_{index}" for index in range(6)))),
    actions=SIDES,
)


def test_a_foreign_server_is_asked_in_its_own_words() -> None:
    options = remote("ws://x", preset="pi0-fast-libero", horizon=2)
    assert options.check(LIBERO) == [] and Remote(url="ws://x", preset="pi0-libero").horizon == 50
    adapter = Adapter(options, LIBERO)
    observation = toy_observation(LIBERO, options.window(), batch_size=2)
    found = unpack(pack(adapter.question(observation, 1)))
    assert set(found) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    image = observation.images["agentview"][1, -1].permute(1, 2, 0).numpy()[:, ::-1]
    assert found["observation/image"].shape == (224, 224, 3) and not found["observation/image"][:56].any()
    np.testing.assert_array_equal(found["observation/image"], padded(image, (224, 224)))
    assert observation.state is not None
    np.testing.assert_array_equal(found["observation/state"], observation.state[1, -1][[2, 3, 4, 5, 6, 7, 0, 1]])
    actions = np.arange(6, dtype=np.float64).reshape(3, 2)
    chunk = adapter.chunk({"actions": actions}, options.window())  # its gripper means the opposite
    np.testing.assert_array_equal(chunk, [[0, -1], [2, -3]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (", cameras: {fornt: observation/image}", "camera 'fornt', which the benchmark does not have"),
        (", state: [speed]", "the server wants the state speed"),
        (", gripper: positive_opens", "the benchmark's actions have none"),
        (", orientation: sideways", "policy.orientation"),
        ("}\ntrain: [{name: policy, steps: 1, batch_size: 1}]\nnormalization: {actions: minmax", "has no weights"),
    ],
)
def test_what_does_not_fit_is_found_without_the_server(options: str, message: str, tmp_path: Path) -> None:
    from videopolicy import RecipeError

    with pytest.raises(RecipeError, match=message):
        load_recipe(written(tmp_path, "ws://127.0.0.1:9", options))


def test_the_number_of_actions_must_be_known() -> None:
    with pytest.raises(ValidationError, match="horizon"):
        Remote.model_validate({"url": "ws://x"})
