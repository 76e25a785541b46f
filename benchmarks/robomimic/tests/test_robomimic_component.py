"""Task, spaces, protocol and published numbers of robomimic; its simulator is not started."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from vpolicy_robomimic.components import VERSIONS, Robomimic


def test_actions_are_absolute_poses_in_ten_numbers():
    spaces = Robomimic().spaces()
    assert [(camera.name, camera.height) for camera in spaces.cameras] == [
        ("sideview", 240),
        ("robot0_eye_in_hand", 240),
    ]
    actions = spaces.actions
    assert (actions.dim, actions.control, actions.rotation) == (10, "absolute_position", "absolute_rotation_6d")
    assert (actions.gripper, actions.rate) == ("positive_closes", 20)
    assert all(low == -1 and high == 1 for low, high in zip(actions.low[3:], actions.high[3:], strict=True))
    assert spaces.state.dim == 9 and spaces.state.names[3:7] == tuple(f"robot0_eef_quat_{i}" for i in range(4))


def test_the_task_lasts_as_long_as_in_diffusion_policy():
    (task,) = Robomimic().tasks()
    assert (task.name, task.max_steps) == ("tool_hang", 700)
    assert Robomimic().protocol()["max_steps"] == 700


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task_names", ["toolhang"], "Did you mean 'tool_hang'?"),
        ("cameras", ["agentview"], "'sideview' or 'robot0_eye_in_hand'"),
        ("cameras", ["sideview", "sideview"], "a camera is named more than once"),
        ("rendering", "quick", "'stock' or 'fast'"),
        ("max_steps", 701, "less than or equal to 700"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(field, value, message):
    with pytest.raises(ValidationError) as caught:
        Robomimic.model_validate({field: value})
    assert message in str(caught.value)


def test_the_protocol_tells_apart_what_changes_results_and_nothing_else():
    base = Robomimic(image_size=84)
    for change in ({"image_size": 240}, {"rendering": "fast"}, {"cameras": ("sideview",)}, {"max_steps": 200}):
        assert base.model_copy(update=change).protocol() != base.protocol()
    assert base.protocol()["simulator"] == {"robosuite": "1.4.1", "mujoco": "2.3.7"}
    assert base.model_copy(update={"task_names": ("tool_hang",)}).protocol() == base.protocol()


def test_the_environment_has_the_versions_of_the_protocol():
    pinned = dict(
        line.split("==")
        for line in Robomimic().launch().requirements.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    assert {name: pinned[name] for name in VERSIONS} == VERSIONS
    assert int(pinned["mujoco"].split(".")[0]) < 4 and "evdev" not in pinned  # evdev would have to be compiled


def test_the_closeup_is_for_people():
    closeup = Robomimic(image_size=84, rendering="fast", cameras=("robot0_eye_in_hand",), max_steps=200).closeup()
    assert (closeup.cameras, closeup.rendering, closeup.max_steps) == (("sideview",), "stock", 200)
    assert closeup.image_size >= 256


def test_published_numbers_are_those_of_the_column_tool():
    values = {number.method: number.value for number in Robomimic().published()}
    assert values == {"DP-C": 0.95, "DP-T": 0.76, "OpenVLA": 0.18, "UniPi": 0.0, "UVA-action": 0.62, "UVA": 0.88}
