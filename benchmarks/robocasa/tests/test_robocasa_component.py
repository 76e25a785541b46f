"""Tasks, spaces, protocol, presets and published numbers of RoboCasa, without its simulator."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError
from vpolicy_robocasa.components import ACTION_TAIL, SCENES, STATE, RoboCasa

from videopolicy.testing import BenchmarkContract


class TestRoboCasa(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return RoboCasa(task_names=("doors", "CoffeePressButton"), image_size=64)


def test_twenty_four_tasks_in_the_papers_groups():
    tasks = RoboCasa().tasks()
    assert Counter(task.tier for task in tasks) == {
        "pick_and_place": 8,
        "doors": 4,
        "drawers": 2,
        "twisting_knobs": 2,
        "turning_levers": 3,
        "pressing_buttons": 3,
        "insertion": 2,
    }
    assert len({task.name for task in tasks}) == len({task.instruction for task in tasks}) == 24


def test_horizons_are_the_tasks_own_unless_those_of_the_official_code_are_asked_for():
    own = {task.name: task.max_steps for task in RoboCasa().tasks()}
    other = {name: steps for name, steps in own.items() if steps != 500}
    assert other == {
        "PnPCounterToMicrowave": 600,
        "PnPCounterToSink": 700,
        "OpenDoubleDoor": 1000,
        "CloseDoubleDoor": 700,
        "CoffeePressButton": 300,
        "CoffeeServeMug": 600,
        "CoffeeSetupMug": 600,
    }
    official = RoboCasa(horizon="video-policy")
    assert {task.max_steps for task in official.tasks()} == {992}
    assert official.protocol() != RoboCasa().protocol()


def test_the_protocol_is_five_kitchens_with_held_out_objects():
    protocol = RoboCasa().protocol()
    assert protocol["scenes"] == [[1, 1], [2, 2], [4, 4], [6, 9], [7, 10]] and len(SCENES) == 5
    assert protocol["object_split"] == "B"
    assert RoboCasa(image_size=128).protocol() != protocol
    assert RoboCasa(task_names=("doors",)).protocol() == protocol


def test_seven_of_twelve_actions_are_the_policys():
    actions = RoboCasa().spaces().actions
    assert actions.dim + len(ACTION_TAIL) == 12 and ACTION_TAIL[-1] == -1
    assert (actions.gripper, actions.rate, actions.rotation) == ("positive_closes", 20.0, "delta_axis_angle")
    left = RoboCasa(cameras=("robot0_agentview_left", "robot0_eye_in_hand"), image_size=96).spaces().cameras
    assert [(camera.name, camera.width) for camera in left] == [
        ("robot0_agentview_left", 96),
        ("robot0_eye_in_hand", 96),
    ]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task_names", ["OpenDraw"], "Did you mean 'OpenDrawer'?"),
        ("task_names", ["door"], "Did you mean 'doors'?"),
        ("task_names", ["drawers", "OpenDrawer"], "named more than once: OpenDrawer"),
        ("cameras", ["robot0_front"], "robot0_agentview_left"),
        ("cameras", ["robot0_eye_in_hand", "robot0_eye_in_hand"], "a camera is named more than once"),
        ("horizon", "992", "'task' or 'video-policy'"),
        ("assets", "standin", "'official' or 'stand-in'"),
        ("scenes", [[10, 1]], "less than 10"),
        ("scenes", [[1, 12]], "less than 12"),
        ("state", ["robot0_eef"], "'robot0_base_to_eef_pos'"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(field, value, message):
    with pytest.raises(ValidationError) as caught:
        RoboCasa.model_validate({field: value})
    assert message in str(caught.value)


def test_stand_ins_are_another_protocol_other_assets_and_say_so():
    official, stand_in = RoboCasa(), RoboCasa(assets="stand-in")
    assert official.protocol() != stand_in.protocol() and official.remarks() == ()
    assert "stand-ins" in stand_in.remarks()[0]
    assert [pack.name for pack in official.launch().assets.packs] == ["textures", "fixtures", "objaverse"]
    assert official.launch().assets.stand_in == stand_in.launch().assets and not stand_in.launch().assets.packs


def test_pictures_scenes_and_state_are_part_of_the_protocol():
    said = [RoboCasa(), RoboCasa(rendering="fast"), RoboCasa(scenes=((1, 1),)), RoboCasa(state=tuple(STATE))]
    assert len({str(one.protocol()) for one in said}) == 4
    assert said[0].spaces().state is None and said[3].spaces().state.dim == 16
    assert said[2].launch().config["scenes"] == [[1, 1]]


def test_the_worker_is_given_every_tasks_own_horizon_and_the_arm_mode():
    config = RoboCasa(task_names=("pressing_buttons",)).launch().config
    assert config["horizons"] == {"CoffeePressButton": 300, "TurnOnMicrowave": 500, "TurnOffMicrowave": 500}
    assert config["tail"] == [0.0, 0.0, 0.0, 0.0, -1.0] and config["split"] == "B"


def in_simulation():
    return [number for number in RoboCasa().published() if number.kind != "elsewhere"]


def test_columns_that_two_tables_print_are_the_same():
    values: dict[str, dict[str, dict[str, float]]] = {}
    for number in in_simulation():
        column = values.setdefault(number.source[-7:], {}).setdefault(number.method, {})
        column[number.group] = number.value
    tasks = {task.name for task in RoboCasa().tasks()}
    assert all(set(column) <= {*tasks, "mean"} for table in values.values() for column in table.values())
    assert values["Table 1"]["Video Policy (50)"] == values["Table 7"]["Video Policy (50)"]
    assert values["Table 1"]["GR00T"] == values["Table 7"]["GR00T (300)"]
    for ours, theirs in (("Joint", "Joint"), ("2-Stages", "2-Stage"), ("No Video", "No Video Tuning")):
        assert values["Table 6"][ours]["mean"] == values["Table 3"][theirs]["mean"]


def test_the_papers_main_numbers_are_there():
    mean = {(n.source[-7:], n.method): n.value for n in in_simulation() if n.group == "mean"}
    assert mean["Table 1", "Video Policy (50)"] == mean["Table 6", "2-Stages"] == 0.63
    assert mean["Table 1", "Video Policy (300)"] == 0.66
    assert (mean["Table 6", "Joint"], mean["Table 6", "No Video"], mean["Table 6", "Half Tasks"]) == (0.57, 0.09, 0.41)
    horizons = [mean["Table 8", f"Joint {steps} Steps"] for steps in (32, 16, 0)]
    assert horizons == [0.67, 0.55, 0.30]
    assert len({n.metric for n in in_simulation()}) == 2  # Table 8's scenes are others
    others = {n.source[-7:]: n.metric for n in RoboCasa().published() if n.kind == "elsewhere"}
    assert others == {"Table 4": "success on a real robot"}
