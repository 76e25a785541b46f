"""What a simulator says of poses is judged before anything is made of it."""

from __future__ import annotations

import numpy as np
import pytest

from videopolicy.simulators.answers import MOST_FRAMES, Agreement, AnswerError
from videopolicy.testing.toy_data import toy_spaces

AGREED = Agreement(toy_spaces(), longest=10)
ARGUMENTS = {"states": np.zeros((3, 5)), "actions": np.zeros((3, 4), np.float32)}


def poses(*first: int) -> np.ndarray:
    return np.tile(np.eye(4), (*first, 1, 1))


def replayed(**changed) -> dict:
    answer = {"initial_state": "ab", "success": True, "hand": poses(3), "targets": poses(3), "gripper": np.zeros(3)}
    return {**answer, "frames": {"cup": poses(3)}, **changed}


def followed(**changed) -> dict:
    return {"hand": poses(), "frames": {"cup": poses()}, "done": False, **changed}


def rendered(steps: int = 3, **changed) -> dict:
    images = {camera: np.zeros((steps, 32, 32, 3), np.uint8) for camera in ("front", "wrist")}
    return {"initial_state": "ab", "success": True, "images": images, **changed}


def test_sound_answers_are_taken():
    AGREED.check("render", ARGUMENTS, rendered())
    pictures = sum(one.nbytes for one in rendered()["images"].values())
    assert pictures < AGREED.limit("render", ARGUMENTS) <= pictures + 2**20
    AGREED.check("replay", ARGUMENTS, replayed())
    AGREED.check("guide", {}, followed(initial_state="ab"))
    AGREED.check("follow", {}, followed())
    largest = {f"{number}": poses(3) for number in range(MOST_FRAMES)}
    size = sum(one.nbytes for one in [*largest.values(), poses(3), poses(3), np.zeros(3)])
    assert size < AGREED.limit("replay", ARGUMENTS)


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("replay", replayed(hand=poses(2)), r"'hand' is \(2, 4, 4\) float64, not \(3, 4, 4\) float64"),
        ("replay", replayed(targets=poses(3).astype(np.float32)), "'targets' is"),
        ("replay", replayed(gripper=np.full(3, np.nan)), "'gripper' holds NaN or infinity"),
        ("replay", replayed(success=1), "'success' is 1, not true or false"),
        ("guide", followed(), "'initial_state' is missing"),
        (
            "render",
            rendered(2),
            r"camera 'front' in the rendered states is \(2, 32, 32, 3\) uint8, not \(3, 32, 32, 3\)",
        ),
        ("render", rendered(images={}), "has pictures of no camera, not of front, wrist"),
        ("render", rendered(success=None), "'success' is None, not true or false"),
        ("render", {**rendered(), "initial_state": ""}, "'initial_state' is ''"),
        ("follow", followed(done=None), "'done' is None"),
        ("follow", followed(frames={"cup": poses(1)}), r"frame 'cup' is \(1, 4, 4\)"),
        ("follow", followed(frames={"": poses()}), "a name in 'frames'"),
        ("follow", followed(frames={str(n): poses() for n in range(MOST_FRAMES + 1)}), "'frames' holds 501 poses"),
        ("follow", followed(frames={"cup": np.full((4, 4), np.inf)}), "frame 'cup' holds NaN or infinity"),
    ],
)
def test_wrong_answers_are_named(method: str, answer: dict, message: str):
    with pytest.raises(AnswerError, match=message):
        AGREED.check(method, ARGUMENTS, answer)
