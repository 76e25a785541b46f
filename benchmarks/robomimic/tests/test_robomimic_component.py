"""Task, spaces, protocol and published numbers of robomimic, without its simulator."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from vpolicy_robomimic.components import Robomimic

from videopolicy.errors import SimulationError
from videopolicy.testing import BenchmarkContract


class TestRobomimic(BenchmarkContract):
    @pytest.fixture
    def component(self):
        return Robomimic(image_size=64)


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
    assert Robomimic().protocol()["max_steps"] == {"tool_hang": 700}
    assert Robomimic(cameras=("sideview",)).protocol() != Robomimic().protocol()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task_names", ["toolhang"], "Did you mean 'tool_hang'?"),
        ("cameras", ["agentview"], "'sideview' or 'robot0_eye_in_hand'"),
        ("cameras", ["sideview", "sideview"], "a camera is named more than once"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(field, value, message):
    with pytest.raises(ValidationError) as caught:
        Robomimic.model_validate({field: value})
    assert message in str(caught.value)


def test_the_missing_simulator_is_said_with_what_works_without_it():
    with pytest.raises(SimulationError, match="not part of this version") as caught:
        Robomimic().launch()
    assert "eval.episodes=0" in caught.value.hint


def test_published_numbers_are_those_of_the_column_tool():
    values = {number.method: number.value for number in Robomimic().published()}
    assert values == {"DP-C": 0.95, "DP-T": 0.76, "OpenVLA": 0.18, "UniPi": 0.0, "UVA-action": 0.62, "UVA": 0.88}
