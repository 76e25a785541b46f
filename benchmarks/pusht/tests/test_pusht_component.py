"""Tasks, spaces, protocol and published numbers of PushT; its simulator is not started."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from vpolicy_pusht.components import PushT

from videopolicy.storage.identity import collected_by


def test_actions_and_state_are_points_of_the_plane():
    spaces = PushT().spaces()
    assert [(camera.name, camera.height, camera.width) for camera in spaces.cameras] == [("image", 96, 96)]
    assert spaces.state.names == ("agent_x", "agent_y")
    assert (spaces.actions.low, spaces.actions.high) == ((0, 0), (512, 512))
    assert (spaces.actions.control, spaces.actions.rate) == ("planar_target", 10)


def test_goals_make_the_task_and_its_protocol():
    fixed, random = PushT(), PushT(goals="random")
    assert [task.name for task in (*fixed.tasks(), *random.tasks())] == ["pusht", "pusht-m"]
    assert {task.max_steps for task in (*fixed.tasks(), *random.tasks())} == {300}
    assert fixed.protocol() != random.protocol() and "seed" in random.protocol()["goals"]


@pytest.mark.parametrize(
    "change", [{"background_color": (30, 60, 90)}, {"background_objects": 3}, {"goal_color": (255, 0, 0)}]
)
def test_disturbed_pictures_share_no_fingerprint_with_the_usual_ones(change):
    usual, disturbed = PushT(), PushT(**change)
    assert usual.protocol() != disturbed.protocol()
    assert (usual.tasks(), usual.spaces()) == (disturbed.tasks(), disturbed.spaces())


def test_the_score_of_papers_is_not_the_success_rate():
    records = [{"score": 1.0, "success": True}, {"score": 0.5, "success": False}, {"score": 0.9, "success": False}]
    assert PushT().metrics(records) == {"mean max coverage": pytest.approx(0.8)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("goals", "moving", "'fixed' or 'random'"),
        ("goal_color", [0, 0, 256], "less than or equal to 255"),
        ("background_color", [0, 0], "Field required"),
        ("background_objects", -1, "greater than or equal to 0"),
    ],
)
def test_what_does_not_exist_is_refused(field, value, message):
    with pytest.raises(ValidationError) as caught:
        PushT.model_validate({field: value})
    assert message in str(caught.value)


def test_demonstrations_are_collected_without_disturbances():
    disturbed = PushT(goals="random", image_size=64, background_objects=3, goal_color=(255, 0, 0))
    usual = PushT(goals="random", image_size=64)
    assert disturbed.demonstrating() == usual == usual.demonstrating()
    assert collected_by(disturbed.demonstrating()) == collected_by(usual)
    assert collected_by(PushT(goals="fixed", image_size=64)) != collected_by(usual)


def test_films_are_larger_and_keep_disturbances():
    closeup = PushT(image_size=64, goal_color=(255, 0, 0)).closeup()
    assert [camera.height for camera in closeup.spaces().cameras] == [256]
    assert closeup.goal_color == (255, 0, 0) and PushT(image_size=512).closeup().image_size == 512


def test_the_two_tables_agree_where_they_overlap():
    numbers = PushT().published()
    first = {(n.method, n.group): n.value for n in numbers if n.source.endswith("Table I")}
    third = {(n.method, n.group): n.value for n in numbers if n.source.endswith("Table III")}
    assert (len(first), len(third)) == (12, 20)
    assert all(first[key] == value for key, value in third.items() if key in first)
    assert (first["UVA", "pusht"], first["UVA", "pusht-m"], first["UVA-action", "pusht"]) == (0.98, 0.88, 0.45)
    assert third["UVA", "pusht, other goal color"] == 0.64
    assert {n.metric for n in numbers} == {"mean max coverage"}
    assert all("chosen on" in n.note for n in numbers if n.source.endswith("Table I"))
