"""Tasks, spaces, protocols and published numbers of LIBERO, without its simulator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError
from vpolicy_libero.components import Libero
from vpolicy_libero.suites import suites

from videopolicy.testing import BenchmarkContract

STOVE = "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it"

SHORT: dict[str, Any] = {
    "suite": "libero_goal",
    "task_names": ("turn_on_the_stove",),
    "image_size": 64,
    "rendering": "fast",
    "preset": "own",
    "max_steps": 150,
}
"""What takes its expert three seconds of simulated time, and an episode without a success seven and a half."""


class TestLibero(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return Libero(**SHORT)


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


def refused(**options) -> str:
    with pytest.raises(ValidationError) as caught:
        Libero.model_validate(options)
    return str(caught.value)


def test_every_suite_has_its_tasks_sentences_and_steps():
    sizes = {suite: len(Libero(suite=suite).tasks()) for suite in suites()}
    assert len(sizes) == 21 and sizes.pop("libero_90") == 90 and set(sizes.values()) == {10}
    steps = {
        suite: Libero(suite=suite, preset="openvla").tasks()[0].max_steps
        for suite in ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90", "libero_goal_swap")
    }
    assert list(steps.values()) == [220, 280, 300, 520, 400, 300]
    assert Libero(suite="libero_goal").published() == () != Libero().published()
    assert len({json.dumps(Libero(suite=suite).protocol()) for suite in suites()}) == 21


def test_sentences_are_the_benchmarks_unless_a_suite_changes_them():
    cheese, swapped = "put_the_cream_cheese_in_the_bowl", {"suite": "libero_goal_swap"}

    def said(task: str, **options) -> str:
        return Libero(task_names=(task,), **options).tasks()[0].instruction

    assert said(cheese, suite="libero_goal") == said(cheese, **swapped) == "put the cream cheese in the bowl"
    assert said(cheese, suite="libero_goal", sentences="bddl") == "Put the cream cheese on the bowl"
    rack = "put_the_wine_bottle_on_the_rack"
    assert said(rack, suite="libero_goal_lan") == "place the wine bottle on the rack"
    assert said(rack, suite="libero_goal_task") == "Put the cream cheese on the rack"
    ten = "KITCHEN_SCENE10_put_the_black_bowl_in_the_top_drawer_of_the_cabinet"
    assert said(ten, suite="libero_90") == "put the black bowl in the top drawer of the cabinet"


def test_presets_do_not_take_what_contradicts_them():
    said = refused(preset="uva", max_steps=600)
    assert "preset 'uva' has max_steps: 500; max_steps: 600 contradicts that" in said and "preset: own" in said
    assert "orientation: mirrored; orientation: upright contradicts" in refused(preset="openvla", orientation="upright")
    assert "initial_states: stored; initial_states: random" in refused(initial_states="random")
    assert "is of the suite libero_10, not of libero_goal" in refused(suite="libero_goal", preset="uva")
    assert Libero(preset="uva", max_steps=500, initial_states="random").protocol() == Libero(preset="uva").protocol()
    own = Libero(preset="own", max_steps=20, settling_steps=0)
    assert own.tasks()[0].max_steps == 20 and own.launch().config["settling"] == [0, [0.0] * 7]
    assert Libero(preset="own").protocol() == Libero().protocol() != own.protocol()


def test_unknown_suites_and_versions_are_said_with_the_known_ones():
    assert "no suite 'libero_gaol'. Did you mean 'libero_goal'?" in refused(suite="libero_gaol")
    assert "libero_goal has no task 'turn_on_stove'. Did you mean 'turn_on_the_stove'?" in refused(
        suite="libero_goal", task_names=["turn_on_stove"]
    )
    assert "'2.3.7', '3.3.2' or '3.17.0'" in refused(mujoco="3.9.0")
    assert "a state is named more than once" in refused(state=["ee_pos", "ee_pos"])
    assert "There are 50 stored states" in refused(demonstrations_from=[40, 51])


def test_every_version_of_mujoco_is_an_environment_of_its_own():
    specs = [Libero(mujoco=version).launch() for version in ("2.3.7", "3.3.2", "3.17.0")]
    assert len({spec.environment for spec in specs}) == 3
    for spec, version in zip(specs, ("2.3.7", "3.3.2", "3.17.0"), strict=True):
        pinned = spec.requirements.read_text().splitlines()
        assert f"mujoco=={version}" in pinned and "robosuite==1.4.0" in pinned
        assert all("==" in line for line in pinned if not line.startswith("#"))
        assert spec.config["versions"]["mujoco"] == version
    assert Libero().protocol() != Libero(mujoco="3.17.0").protocol()


def test_states_are_named_as_in_liberos_files():
    names = Libero(state=("gripper_states", "ee_pos")).spaces().state.names
    assert names == ("gripper_states_0", "gripper_states_1", "ee_pos_0", "ee_pos_1", "ee_pos_2")
    assert Libero().stored_states() == 50 and Libero(preset="uva").stored_states() is None


def test_the_closeup_is_the_same_episode_upright_in_a_large_picture():
    closeup = Libero(preset="openvla", suite="libero_goal", rendering="fast", image_size=64).closeup()
    here, there = Libero(preset="openvla", suite="libero_goal").launch().config, closeup.launch().config
    differing = {name for name in here if here[name] != there[name]}
    assert differing == {"cameras", "image_size", "orientation", "spaces"} and there["orientation"] == "upright"
