"""The algorithm on a table without physics: a hand, a block that it grasps when it closes beside it, and a shelf."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from vpolicy_mimicgen.components import MimicGen
from vpolicy_mimicgen.multiplier import choose
from vpolicy_mimicgen.options import SubTask
from vpolicy_mimicgen.poses import between, distance, moved_along
from vpolicy_mimicgen.segments import Segment

from videopolicy import DataError, Scene, Source

STEP, REACH = 0.05, 0.02
TASKS = {
    "stack": [
        {"object": "block", "end": {"lifted": 0.04}, "offset": [0, 2], "selection": "nearest-object", "noise": 0},
        {"object": "shelf", "noise": 0},
    ]
}


def pose(x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    found = np.eye(4)
    found[:3, 3] = x, y, z
    found[:3, :3] = Rotation.from_euler("z", yaw).as_matrix()
    return found


class Table:
    """The hand goes where it is sent, at most `STEP` at once; a block is held as it was grasped."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.hand = pose(0.0, 0.0, 0.3)
        self.block = pose(*random.uniform(-0.3, 0.3, 2), 0.0, random.uniform(-0.8, 0.8))
        self.shelf = pose(*random.uniform(0.5, 0.9, 2), 0.1, random.uniform(-0.8, 0.8))
        self.held: np.ndarray | None = None

    def grasp(self) -> np.ndarray:
        """The only pose in which the block can be grasped: from above, a bit off its middle, turned with it."""
        return self.block @ pose(0.02, 0.0, 0.03)

    def act(self, target: np.ndarray, closing: float) -> None:
        way = target[:3, 3] - self.hand[:3, 3]
        share = min(1.0, STEP / max(np.linalg.norm(way), 1e-9))
        self.hand = target.copy()
        self.hand[:3, 3] -= (1 - share) * way
        if closing <= 0:
            self.held = None
        elif self.held is None and distance(self.hand, self.grasp()) < REACH:
            self.held = np.linalg.inv(self.hand) @ self.block
        if self.held is not None:
            self.block = self.hand @ self.held

    def solved(self) -> bool:
        return self.held is None and distance(self.block, self.shelf @ pose(0.0, 0.0, 0.02)) < REACH

    def scene(self) -> Scene:
        return Scene(self.hand.copy(), {"block": self.block.copy(), "shelf": self.shelf.copy()})


def demonstration(seed: int) -> Source:
    """Above the block, down, close, up, above the shelf, down, open."""
    table, seen, targets, gripper = Table(seed), [], [], []

    def go(target: np.ndarray, closing: float, steps: int) -> None:
        for _ in range(steps):
            seen.append(table.scene())
            targets.append(target)
            gripper.append(closing)
            table.act(target, closing)

    grasp = table.grasp()
    go(grasp @ pose(0, 0, 0.1), -1.0, 14)
    go(grasp, -1.0, 4)
    go(grasp, 1.0, 2)
    go(grasp @ pose(0, 0, 0.2), 1.0, 6)
    put = table.shelf @ pose(0.0, 0.0, 0.02) @ np.linalg.inv(table.held)
    go(put @ pose(0, 0, 0.1), 1.0, 40)
    go(put, 1.0, 4)
    go(put, -1.0, 2)
    assert table.solved()
    frames = {name: np.stack([one.frames[name] for one in seen]) for name in ("block", "shelf")}
    hand = np.stack([one.hand for one in seen])
    return Source(f"seed {seed}", "stack", hand, np.stack(targets), np.array(gripper), frames)


class Episode(NamedTuple):
    solved: bool
    targets: np.ndarray
    noise: np.ndarray
    facts: dict


def attempt(multiplier, seed: int) -> Episode:
    table, targets, noise, facts = Table(seed), [], [], {}
    motions = multiplier.guide("stack", seed, table.scene())
    motion = next(motions)
    while True:
        for target, closing in zip(motion.targets, motion.gripper, strict=True):
            table.act(target, closing)
        targets.append(motion.targets)
        noise.append(motion.noise)
        facts.update(motion.facts)
        try:
            motion = motions.send(table.scene())
        except StopIteration:
            return Episode(table.solved(), np.concatenate(targets), np.concatenate(noise), facts)


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return [demonstration(seed) for seed in range(3)]


def made(sources: list[Source], seed: int = 0, tasks: dict = TASKS):
    return MimicGen(tasks=tasks, episodes_per_task=1, seed=seed).build(sources)


def changed(number: int, **options) -> dict:
    parts = [dict(part) for part in TASKS["stack"]]
    parts[number].update(options)
    return {"stack": parts}


def test_poses_keep_their_relation_to_the_object():
    then, now = pose(0.3, -0.2, 0.1, 0.4), pose(-0.5, 0.7, 0.2, -1.1)
    poses = np.stack([pose(0.1, 0.2, 0.3, 0.5), pose(1.0, 0.0, 0.0, 0.0)])
    moved = moved_along(poses, then, now)
    np.testing.assert_allclose(np.linalg.inv(now) @ moved, np.linalg.inv(then) @ poses, atol=1e-12)
    np.testing.assert_allclose(moved_along(poses, then, then), poses, atol=1e-12)


def test_interpolation_is_straight_and_turns_evenly():
    way = between(pose(0, 0, 0, 0.0), pose(1, 2, 0, 1.0), 4)
    np.testing.assert_allclose(way[:, 0, 3], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(way[:, 1, 3], [0.4, 0.8, 1.2, 1.6])
    np.testing.assert_allclose(np.arctan2(way[:, 1, 0], way[:, 0, 0]), [0.2, 0.4, 0.6, 0.8])
    assert between(pose(0, 0), pose(1, 0), 0).shape == (0, 4, 4)


def test_new_scenes_are_solved_and_not_without_moving_along(sources, monkeypatch):
    assert sum(attempt(made(sources), seed).solved for seed in range(10, 30)) == 20
    monkeypatch.setattr("vpolicy_mimicgen.segments.moved_along", lambda poses, then, now: poses)
    assert sum(attempt(made(sources), seed).solved for seed in range(10, 30)) == 0


def test_an_attempt_depends_on_the_seed_and_its_number_alone(sources):
    noisy = changed(0, noise=0.1)
    first, other = made(sources, tasks=noisy), made(sources, tasks=noisy)
    attempt(other, 11)
    one, same = attempt(first, 12), attempt(other, 12)
    np.testing.assert_array_equal(one.targets, same.targets)
    np.testing.assert_array_equal(one.noise, same.noise)
    assert one.facts == same.facts
    assert not np.array_equal(one.noise[:10], attempt(made(sources, seed=1, tasks=noisy), 12).noise[:10])
    assert not np.array_equal(one.noise[:10], attempt(first, 13).noise[:10])


def test_noise_has_the_deviation_that_is_asked_for(sources):
    noisy = made(sources, tasks={"stack": [{**part, "noise": 0.05} for part in TASKS["stack"]]})
    drawn = np.concatenate([attempt(noisy, seed).noise for seed in range(20)])
    assert drawn.shape[1] == 6
    np.testing.assert_allclose(drawn.std(axis=0), 0.05, rtol=0.1)
    assert not attempt(made(sources), 0).noise.any()


def test_segments_end_at_their_signals_and_offsets(sources):
    lengths = {len(attempt(made(sources[:1]), seed).targets) for seed in range(10, 30)}
    assert lengths == {len(sources[0].targets) + 2 * 5}, "cut elsewhere, all of the source is followed"
    opens = changed(0, end={"gripper": "closes"}, offset=[0, 0])
    motions = made(sources[:1], tasks=opens).guide("stack", 0, Table(5).scene())
    gripper = next(motions).gripper
    assert gripper[-1] > 0 and (gripper[:-1] <= 0).all(), "the closing action is the last of its sub-task"


def segments(*places: np.ndarray) -> list[Segment]:
    return [Segment(str(number), place, place[None], np.zeros(1)) for number, place in enumerate(places)]


@pytest.mark.parametrize(
    ("selection", "chosen"), [("nearest-object", {"1"}), ("nearest-hand", {"2"}), ("random", {"0", "1", "2"})]
)
def test_strategies_choose_what_they_say(selection: str, chosen: set[str]):
    part = SubTask(object="block", selection=selection, among=1)
    scene, random = Scene(pose(1, 0), {"block": pose(0.3, 0)}), np.random.default_rng(0)
    known = segments(pose(-0.4, 0), pose(0.2, 0), pose(0.9, 0))
    assert {choose(part, known, scene, random).source for _ in range(30)} == chosen


def test_one_of_the_nearest_is_drawn_and_turns_count():
    part = SubTask(object="block", selection="nearest-object", among=2)
    scene, random = Scene(pose(0, 0), {"block": pose(0, 0)}), np.random.default_rng(0)
    known = segments(pose(0, 0, 0, 3.0), pose(0.1, 0), pose(0.2, 0))
    assert {choose(part, known, scene, random).source for _ in range(30)} == {"1", "2"}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (changed(0, object="blok"), "has no object 'blok', of which sub-task 1 is said to be. Did you mean 'block'?"),
        (changed(0, end={"lifted": 3}), "from step 0 of 72 on, 'block' is never 3 m higher"),
        (changed(0, offset=[0, 60]), "Sub-task 2 of 'stack' would be empty in the source seed 0"),
        (changed(0, offset=[-90, 0]), "Sub-task 1 of 'stack' would be empty in the source seed 0"),
    ],
)
def test_what_the_sources_do_not_hold_is_said(sources, tasks: dict, message: str):
    with pytest.raises(DataError) as error:
        made(sources, tasks=tasks)
    assert message in error.value.message and error.value.hint


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"object": "a"}, {"object": "b"}], "sub-task 1 of 'stack' has no `end`"),
        ([{"object": "a", "end": {"lifted": 1}}], "the last sub-task of 'stack' ends with the demonstration"),
        ([{"object": "a", "end": {"lifted": 1, "gripper": "opens"}}], "an end is one signal"),
        ([{"object": "a", "offset": [3, 1]}], "no range: write the fewest steps first"),
        ([{"object": "a", "ofset": [1, 3]}], "ofset"),
        ([], "at least 1 item"),
    ],
)
def test_wrong_specs_are_said(parts: list, message: str):
    with pytest.raises(ValueError, match=message.replace("`", "`")):
        MimicGen(tasks={"stack": parts}, episodes_per_task=1)
