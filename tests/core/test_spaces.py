"""Two sides that do not fit are told apart in words."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from videopolicy import ActionSpace, Camera, DeclaredSpaces, Spaces, StateSpace
from videopolicy.testing import toy_spaces

OURS = toy_spaces(32)


def changed(**actions: object) -> Spaces:
    return OURS.model_copy(update={"actions": OURS.actions.model_copy(update=actions)})


def test_equal_spaces_and_further_cameras_fit() -> None:
    assert OURS.mismatches(OURS, "the policy", "the benchmark") == []
    more = OURS.model_copy(update={"cameras": (*OURS.cameras, Camera(name="top", height=9, width=9))})
    assert OURS.mismatches(more, "the policy", "the benchmark") == []
    without_state = OURS.model_copy(update={"state": None})
    assert without_state.mismatches(OURS, "the policy", "the benchmark") == []


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            OURS.model_copy(update={"cameras": OURS.cameras[:1]}),
            "the policy uses camera 'wrist', the benchmark has front",
        ),
        (
            OURS.model_copy(update={"cameras": (OURS.cameras[0], Camera(name="wrist", height=32, width=48))}),
            "camera 'wrist' is 32x32 in the policy and 32x48 in the benchmark",
        ),
        (
            changed(control="absolute_position"),
            "action control is 'delta_position' in the policy and 'absolute_position' in the benchmark",
        ),
        (
            changed(gripper="positive_opens"),
            "action gripper is 'positive_closes' in the policy and 'positive_opens' in the benchmark",
        ),
        (
            changed(high=(2.0, 1.0, 1.0, 1.0)),
            "action high is [1.0, 1.0, 1.0, 1.0] in the policy and [2.0, 1.0, 1.0, 1.0] in the benchmark",
        ),
        (changed(rate=20.0), "action rate is 10.0 in the policy and 20.0 in the benchmark"),
        (
            OURS.model_copy(update={"state": None}),
            "the state is ['hand_x', 'hand_y', 'hand_z'] in the policy and absent in the benchmark",
        ),
        (
            OURS.model_copy(update={"state": StateSpace(names=("elbow",))}),
            "the state is ['hand_x', 'hand_y', 'hand_z'] in the policy and ['elbow'] in the benchmark",
        ),
    ],
)
def test_every_difference_is_one_sentence(other: Spaces, sentence: str) -> None:
    assert OURS.mismatches(other, "the policy", "the benchmark") == [sentence]


def test_bounds_in_single_precision_are_the_same() -> None:
    rounded = tuple(float(np.float32(low * 0.1)) for low in OURS.actions.low)
    ours = changed(low=tuple(low * 0.1 for low in OURS.actions.low))
    assert ours.actions.low != rounded and ours.mismatches(changed(low=rounded), "the policy", "the benchmark") == []


def test_what_is_known_of_a_dataset_is_compared_part_by_part() -> None:
    def found(**said: object) -> list[tuple[str, str]]:
        return OURS.misfits(DeclaredSpaces(**said), "the benchmark", "the data")

    names = tuple(camera.name for camera in OURS.cameras)
    assert found() == found(cameras=(*names, "top"), actions=OURS.actions, state=OURS.state) == []
    assert found(cameras=("top", names[0])) == [
        ("cameras", "the benchmark uses camera 'wrist', the data has top, front")
    ]
    both = changed(rate=20.0, gripper="none").actions
    assert [part for part, _ in found(actions=both)] == ["actions.gripper", "actions.rate"]
    assert found(state=StateSpace(names=("elbow",)))[0][0] == "state"
    blind = OURS.model_copy(update={"state": None})
    assert blind.misfits(DeclaredSpaces(state=OURS.state), "the benchmark", "the data") == []


def test_spaces_survive_json_and_refuse_unknown_fields() -> None:
    assert Spaces.model_validate_json(OURS.model_dump_json()) == OURS
    assert OURS.actions.dim == 4 and OURS.state is not None and OURS.state.dim == 3
    assert OURS.camera("wrist") == OURS.cameras[1] and OURS.camera("top") is None
    with pytest.raises(ValidationError, match="control"):
        ActionSpace(names=("x",), low=(0,), high=(1,), control="telepathy", rate=1)
    with pytest.raises(ValidationError, match="fps"):
        Camera(name="front", height=1, width=1, fps=3)
