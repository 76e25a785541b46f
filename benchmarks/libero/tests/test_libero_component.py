"""Tasks, spaces, protocols and published numbers of LIBERO-10, without its simulator."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from vpolicy_libero.components import Libero

from videopolicy.testing import BenchmarkContract

STOVE = "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it"


class TestLibero(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return Libero(preset="uva", image_size=64)


def test_ten_tasks_whose_sentences_are_their_names_without_the_scene():
    tasks = Libero().tasks()
    assert len({task.name for task in tasks}) == len({task.instruction for task in tasks}) == 10
    for task in tasks:
        assert task.name.split("_SCENE", 1)[1][2:].replace("_", " ") == task.instruction
    chosen = Libero(task_names=(STOVE,)).tasks()
    assert [task.instruction for task in chosen] == ["turn on the stove and put the moka pot on it"]


def test_presets_differ_in_horizon_and_initial_states_and_share_no_fingerprint():
    presets = {name: Libero(preset=name) for name in ("libero", "openvla", "uva")}
    steps = {name: {task.max_steps for task in preset.tasks()} for name, preset in presets.items()}
    assert steps == {"libero": {600}, "openvla": {520}, "uva": {500}}
    protocols = [preset.protocol() for preset in presets.values()]
    assert all(one != other for one in protocols for other in protocols if one is not other)
    assert "random" in presets["uva"].protocol()["initial_states"]
    assert presets["openvla"].protocol()["settling"] == [10, [0, 0, 0, 0, 0, 0, -1]]


def test_spaces_are_those_of_the_recorded_demonstrations():
    spaces = Libero(cameras=("robot0_eye_in_hand",)).spaces()
    assert [(camera.name, camera.height) for camera in spaces.cameras] == [("robot0_eye_in_hand", 128)]
    assert (spaces.actions.dim, spaces.actions.gripper, spaces.actions.rate) == (7, "positive_closes", 20.0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "task_names",
            ["KITCHEN_SCENE3_turn_on_the_stove"],
            "LIBERO-10 has no task 'KITCHEN_SCENE3_turn_on_the_stove'",
        ),
        ("task_names", [STOVE, STOVE], "a task is named more than once"),
        ("task_names", ["all", STOVE], "a task is named more than once"),
        ("cameras", ["frontview"], "'agentview' or 'robot0_eye_in_hand'"),
        ("cameras", ["agentview", "agentview"], "a camera is named more than once"),
        ("preset", "uva10", "'libero', 'openvla' or 'uva'"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(field, value, message):
    with pytest.raises(ValidationError) as caught:
        Libero.model_validate({field: value})
    assert message in str(caught.value)


def test_the_papers_tasks_average_to_its_mean():
    numbers = Libero().published()
    own = {n.group: n.value for n in numbers if n.source.endswith("Table 9")}
    mean = own.pop("mean")
    assert set(own) == {task.name for task in Libero().tasks()}
    assert sum(own.values()) / 10 == pytest.approx(mean, abs=0.005)
    compared = {n.method: n.value for n in numbers if n.source.endswith("Table 2")}
    assert len(compared) == 8 and compared["Video Policy"] == mean == max(compared.values())
    assert compared["UVA"] == 0.90
    theirs = {n.method: n.value for n in numbers if n.source.endswith("Table I")}
    assert {method: theirs[method] for method in compared if method in theirs} == {
        method: value for method, value in compared.items() if method != "Video Policy"
    }
    assert theirs["UVA-action"] == 0.86
    videos = {n.method: n.value for n in numbers if n.source.endswith("Table IV")}
    assert videos == {"UniPi": 56.55, "UVA (1 step)": 89.36, "UVA (8 steps)": 51.10}
    assert not any(n.metric == "success" for n in numbers if n.source.endswith("Table IV"))


class TestAbsoluteLibero(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return Libero(preset="uva", actions="absolute", sentences="file-name")


def test_absolute_actions_are_ten_numbers_and_another_protocol():
    relative, absolute = Libero(), Libero(actions="absolute")
    actions = absolute.spaces().actions
    assert (actions.dim, actions.control, actions.rotation) == (10, "absolute_position", "absolute_rotation_6d")
    assert actions.names[3:9] == ("r11", "r12", "r13", "r21", "r22", "r23")
    assert relative.protocol() != absolute.protocol()
    assert relative.spaces().mismatches(absolute.spaces(), "one", "the other")


def test_sentences_of_files_begin_with_the_scene():
    (task,) = Libero(task_names=(STOVE,), sentences="file-name").tasks()
    assert task.instruction == "KITCHEN SCENE3 turn on the stove and put the moka pot on it"
    assert Libero().protocol() != Libero(sentences="file-name").protocol()
