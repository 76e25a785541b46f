"""What is collected in LIBERO lies in LIBERO's own layout, and is read as what was collected."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from vpolicy_hdf5.components import RobomimicHDF5
from vpolicy_hdf5.writer import HDF5Writer

from videopolicy import ActionSpace, Camera, DataError, Episode, Spaces, StateSpace, Window

TASK = "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it"
SENTENCE = "turn on the stove and put the moka pot on it"
BDDL = f"libero_10/{TASK}.bddl"
RELATIVE = ActionSpace(
    names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
    control="delta_position",
    rotation="delta_axis_angle",
    gripper="positive_closes",
    rate=20.0,
)
SPACES = Spaces(
    cameras=(Camera(name="agentview", height=8, width=6), Camera(name="robot0_eye_in_hand", height=8, width=6)),
    actions=RELATIVE,
    state=StateSpace(names=("x", "y", "z")),
)
FACTS = {
    "expert": "scripted",
    "bddl_file_name": BDDL,
    "bddl_file_content": "(define (problem LIBERO_Kitchen_Tabletop_Manipulation))",
    "problem_name": "libero_kitchen_tabletop_manipulation",
    "env_kwargs": '{"controller": "OSC_POSE"}',
    "model_file": "<mujoco/>" * 10_000,
}


def episode(number: int, **changes: object) -> Episode:
    random = np.random.default_rng(number)
    steps = 6 + number
    hand = np.array([-0.1, 0.0, 1.0]) + 0.01 * random.normal(size=(steps, 3))
    made = Episode(
        task=TASK,
        instruction=SENTENCE,
        images={c.name: random.integers(0, 256, (steps, 8, 6, 3), dtype=np.uint8) for c in SPACES.cameras},
        actions=random.uniform(-1, 1, (steps, 7)).astype(np.float32),
        state=hand.astype(np.float32),
        initial_state=f"state-{number}",
        success=True,
        attempt=number,
        states=random.normal(size=(steps, 45)),
        arrays={
            "robot_states": random.normal(size=(steps, 9)),
            "obs/ee_pos": hand,
            "obs/joint_states": random.normal(size=(steps, 7)),
        },
        facts=FACTS,
    )
    return dataclasses.replace(made, **changes)


def collected(folder: Path, attempts: tuple[int, ...] = (0, 1, 2)) -> Path:
    writer = RobomimicHDF5().writer(folder, SPACES)
    for attempt in attempts:
        writer.add(episode(attempt))
    return writer.finish({TASK: list(attempts)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return collected(tmp_path / "data")


def the_file(folder: Path) -> Path:
    return folder / f"{TASK}_demo.hdf5"


def test_names_types_and_attributes_are_liberos(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [f"{TASK}_demo.hdf5", "dataset.json"]
    with h5py.File(the_file(folder)) as file:
        data, original = file["data"], episode(1)
        attributes = dict(data.attrs)
        assert attributes["bddl_file_name"] == BDDL and attributes["bddl_file_content"] == FACTS["bddl_file_content"]
        assert attributes["env_name"] == FACTS["problem_name"] and attributes["macros_image_convention"] == "opengl"
        assert (attributes["num_demos"], attributes["total"]) == (3, 6 + 7 + 8)
        said = json.loads(attributes["problem_info"])
        assert said["language_instruction"] == SENTENCE and said["domain_name"] == "robosuite"
        arguments = json.loads(attributes["env_args"])
        assert (arguments["type"], arguments["bddl_file"]) == (1, BDDL)
        assert arguments["env_kwargs"]["camera_names"] == ["agentview", "robot0_eye_in_hand"]
        assert arguments["env_kwargs"]["controller"] == "OSC_POSE"
        demo = data["demo_1"]
        assert {"actions", "states", "robot_states", "rewards", "dones", "obs"} == set(demo)
        assert {"agentview_rgb", "eye_in_hand_rgb", "ee_pos", "joint_states", "state"} == set(demo["obs"])
        for name, kind in (("states", np.float64), ("rewards", np.uint8), ("dones", np.uint8)):
            assert demo[name].dtype == kind
        assert np.array_equal(demo["states"], original.states)
        assert np.array_equal(demo["robot_states"], original.arrays["robot_states"])
        # robosuite's raw images begin with the lowest row
        assert np.array_equal(demo["obs/eye_in_hand_rgb"][()][:, ::-1], original.images["robot0_eye_in_hand"])
        assert demo["rewards"][()].tolist() == demo["dones"][()].tolist() == [0] * 6 + [1]
        assert demo.attrs["num_samples"] == 7 and demo.attrs["model_file"] == FACTS["model_file"]
        assert np.array_equal(demo.attrs["init_state"], original.states[0])
        assert json.loads(attributes["provenance"])["expert"] == "scripted"
        assert json.loads(attributes["provenance"])["human"] is False


def test_episodes_hold_all_but_their_pictures(folder: Path) -> None:
    for kept in RobomimicHDF5(path=folder).episodes(None):
        original = episode(kept.attempt)
        assert (kept.task, kept.instruction, kept.initial_state) == (TASK, SENTENCE, original.initial_state)
        assert kept.facts == FACTS and not kept.images
        assert kept.arrays.keys() == original.arrays.keys() and original.arrays
        for name, values in original.arrays.items():
            assert np.array_equal(kept.arrays[name], values) and kept.arrays[name].dtype == values.dtype
        for ours, theirs in ((kept.actions, original.actions), (kept.states, original.states)):
            assert np.array_equal(ours, theirs)


def test_it_is_read_as_what_was_collected_and_said_to_be_scripted(folder: Path) -> None:
    dataset = RobomimicHDF5(path=folder).build(None)
    assert dataset.spaces == SPACES
    assert dataset.remarks == ("3 of 3 episodes are demonstrations of a scripted expert, not of a human",)
    batch = dataset.windows(Window(horizon=1)).batch([0, 6])  # the first steps of two episodes
    assert list(batch.observation.instructions) == [SENTENCE, SENTENCE]
    for camera in SPACES.cameras:
        for row in (0, 1):
            upright = torch.from_numpy(episode(row).images[camera.name][0].copy()).movedim(-1, 0)
            assert torch.equal(batch.observation.images[camera.name][row, 0], upright)
    dataset.verify()


def test_it_is_read_like_liberos_own_files(folder: Path) -> None:
    """With what a recipe says of those, and as somebody copies them: without our list beside them."""
    (folder / "dataset.json").unlink()
    options = {
        "cameras": {"agentview": "agentview_rgb", "robot0_eye_in_hand": "eye_in_hand_rgb"},
        "orientation": "bottom-up",
        "actions": RELATIVE,
        "state": ("ee_pos", "joint_states"),
    }
    one = RobomimicHDF5(path=folder, **options).build(None)
    assert one.spaces.state is not None and one.spaces.state.dim == 10
    batch = one.windows(Window()).batch([0])
    upright = torch.from_numpy(episode(0).images["agentview"][0].copy()).movedim(-1, 0)
    assert torch.equal(batch.observation.images["agentview"][0, 0], upright)


@pytest.mark.parametrize("key", ["states", "robot_states", "obs/agentview_rgb"])
def test_a_change_of_any_array_is_found(folder: Path, key: str) -> None:
    with h5py.File(the_file(folder), "a") as file:
        values = file[f"data/demo_2/{key}"]
        values[0] = values[1]
    dataset = RobomimicHDF5(path=folder).build(None)
    with pytest.raises(DataError, match="'demo_2', is not what was collected"):
        dataset.verify()


def test_a_change_of_the_provenance_and_a_missing_array_are_found(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("other"))
    with h5py.File(the_file(folder), "a") as file:
        facts = json.loads(file["data/demo_0"].attrs["facts"])
        file["data/demo_0"].attrs["facts"] = json.dumps({**facts, "expert": "human"})
    with pytest.raises(DataError, match="'demo_0', is not what was collected"):
        RobomimicHDF5(path=folder).build(None).verify()
    with h5py.File(the_file(folder.with_name("other")), "a") as file:
        del file["data/demo_0/states"]
    with pytest.raises(DataError, match="the attribute 'further'"):
        RobomimicHDF5(path=folder.with_name("other")).build(None).verify()


def _collect_until_killed(folder: Path) -> None:
    writer = HDF5Writer(folder, SPACES)
    for attempt in range(10_000):
        writer.add(episode(attempt % 5, attempt=attempt))


def test_killed_and_resumed_it_is_the_same(tmp_path: Path) -> None:
    straight, folder = HDF5Writer(tmp_path / "straight", SPACES), tmp_path / "killed"
    child = multiprocessing.get_context("fork").Process(target=_collect_until_killed, args=(folder,))
    child.start()
    writer, deadline = HDF5Writer(folder, SPACES), time.monotonic() + 60
    while len(writer.present().get(TASK, {})) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    again = HDF5Writer(folder, SPACES)
    there = again.present()[TASK]
    assert len(there) >= 3
    wanted = len(there) + 2
    for attempt in range(wanted):
        made = episode(attempt % 5, attempt=attempt)
        straight.add(made)
        if attempt not in there:
            again.add(made)
    fingerprints = [
        RobomimicHDF5().build(one.finish({TASK: list(range(wanted))})).fingerprint() for one in (straight, again)
    ]
    assert fingerprints[0] == fingerprints[1]
    with h5py.File(the_file(tmp_path / "straight")) as one, h5py.File(the_file(folder)) as other:
        for demo in one["data"]:
            assert np.array_equal(one[f"data/{demo}/states"], other[f"data/{demo}/states"])


def test_an_attempt_with_damaged_states_is_made_again(tmp_path: Path) -> None:
    writer = HDF5Writer(tmp_path, SPACES)
    writer.add(episode(0))
    part = writer.parts / TASK / "000000.hdf5"
    content = part.read_bytes()
    at = content.index(episode(0).states.tobytes())
    part.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    assert HDF5Writer(tmp_path, SPACES).present() == {}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"states": np.zeros((5, 45))}, "has 5 states for 6 actions"),
        ({"arrays": {"robot_states": np.zeros((7, 9))}}, "has 7 robot_states for 6 actions"),
    ],
)
def test_what_does_not_fit_its_actions_is_an_error(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(DataError, match=says):
        HDF5Writer(tmp_path, SPACES).add(episode(0, **changes))


def test_environment_arguments_that_are_no_mapping_are_an_error(tmp_path: Path) -> None:
    writer = HDF5Writer(tmp_path, SPACES)
    writer.add(episode(0, facts={**FACTS, "env_kwargs": "[1"}))
    with pytest.raises(DataError, match=r"'env_kwargs' is '\[1', no JSON mapping"):
        writer.finish({TASK: [0]})


# Orientation


@pytest.mark.parametrize("said", ["upright", "mirrored"])
def test_another_orientation_than_the_files_say_is_an_error(folder: Path, said: str) -> None:
    says = rf"are stored bottom-up \('macros_image_convention' is 'opengl'\), and the recipe's data section says {said}"
    component = RobomimicHDF5(path=folder, orientation=said)
    for call in (component.declared, lambda: component.build(None)):
        with pytest.raises(DataError, match=says) as caught:
            call()
        assert "Leave `orientation` out" in caught.value.hint


def test_a_file_of_libero_that_does_not_say_its_orientation_must_be_asked_about(folder: Path) -> None:
    with h5py.File(the_file(folder), "a") as file:
        del file["data"].attrs["macros_image_convention"]
    with pytest.raises(DataError, match="says nowhere which way up") as caught:
        RobomimicHDF5(path=folder).build(None)
    assert "`orientation: bottom-up`" in caught.value.hint
    seen = {}
    for said in ("upright", "bottom-up", "mirrored"):
        dataset = RobomimicHDF5(path=folder, orientation=said).build(None)
        seen[said] = dataset.windows(Window()).batch([0]).observation.images["agentview"][0, 0], dataset.fingerprint()
    stored = torch.from_numpy(episode(0).images["agentview"][0][::-1].copy()).movedim(-1, 0)
    assert torch.equal(seen["upright"][0], stored)
    assert torch.equal(seen["bottom-up"][0], stored.flip(1))
    assert torch.equal(seen["mirrored"][0], stored.flip(2))
    # What is learned from pictures the other way up is something else.
    assert len({fingerprint for _, fingerprint in seen.values()}) == 3


def test_mirrored_pictures_that_were_collected_stay_and_say_so(tmp_path: Path) -> None:
    cameras = tuple(camera.model_copy(update={"orientation": "mirrored"}) for camera in SPACES.cameras)
    mirrored = SPACES.model_copy(update={"cameras": cameras})
    writer = RobomimicHDF5().writer(tmp_path / "data", mirrored)
    writer.add(episode(0))
    folder = writer.finish({TASK: [0]})
    component = RobomimicHDF5(path=folder)
    dataset = component.build(None)
    assert dataset.spaces == mirrored and component.declared().orientation == "mirrored"
    image = torch.from_numpy(episode(0).images["agentview"][0].copy()).movedim(-1, 0)
    assert torch.equal(dataset.windows(Window()).batch([0]).observation.images["agentview"][0, 0], image)
    (says, *_) = SPACES.mismatches(dataset.spaces, "the benchmark", "the dataset")
    assert says == "camera 'agentview' is upright in the benchmark and mirrored in the dataset"
    ((part, said),) = SPACES.misfits(component.declared(), "the benchmark", "the data section")
    assert (part, said) == ("cameras", says.replace("dataset", "data section"))
    (tmp_path / "both").mkdir()
    shutil.copy(the_file(folder), tmp_path / "both" / "one.hdf5")
    shutil.copy(the_file(collected(tmp_path / "upright")), tmp_path / "both" / "two.hdf5")
    with pytest.raises(DataError, match="some files are mirrored"):
        RobomimicHDF5(path=tmp_path / "both").build(None)


@pytest.mark.parametrize("foreign", [False, True])
def test_pictures_are_mirrored_where_a_policy_wants_them_so(folder: Path, foreign: bool) -> None:
    options = {}
    if foreign:
        as_others_record(folder, False)
        options = {"actions": RELATIVE, "cameras": {"agentview": "agentview_rgb"}}
    component = RobomimicHDF5(path=folder, pictures="mirrored", **options)
    dataset, plain = component.build(None), RobomimicHDF5(path=folder, **options).build(None)
    assert component.declared().orientation == dataset.spaces.cameras[0].orientation == "mirrored"
    one, other = (found.windows(Window()).batch([0]).observation.images["agentview"] for found in (dataset, plain))
    assert torch.equal(one, other.flip(-1)) and dataset.fingerprint() != plain.fingerprint()


def test_upright_cameras_are_written_as_before() -> None:
    assert Camera(name="top", height=2, width=3).model_dump() == {"name": "top", "height": 2, "width": 3}
    turned = Camera(name="top", height=2, width=3, orientation="mirrored")
    assert Camera.model_validate_json(turned.model_dump_json()) == turned


def test_an_unknown_convention_is_an_error(folder: Path) -> None:
    with h5py.File(the_file(folder), "a") as file:
        file["data"].attrs["macros_image_convention"] = "sideways"
    with pytest.raises(DataError, match="'macros_image_convention' is 'sideways', not 'opengl' or 'opencv'"):
        RobomimicHDF5(path=folder).build(None)


# Action space

ABSOLUTE = ActionSpace(
    names=("x", "y", "z", "r11", "r12", "r13", "r21", "r22", "r23", "gripper"),
    low=(-2.0,) * 3 + (-1.0,) * 7,
    high=(2.0,) * 3 + (1.0,) * 7,
    control="absolute_position",
    rotation="absolute_rotation_6d",
    gripper="positive_closes",
    rate=20.0,
)


def as_others_record(folder: Path, absolute: bool) -> Path:
    """The file without what only we write; its actions are poses to take where ``absolute``."""
    with h5py.File(the_file(folder), "a") as file:
        del file["data"].attrs["spaces"]
        for demo in file["data"].values():
            if absolute:
                actions = demo["actions"][()]
                actions[:, :3] = demo["obs/ee_pos"][()] + 0.01
                demo["actions"][...] = actions
    (folder / "dataset.json").unlink()
    return folder


@pytest.mark.parametrize("absolute", [False, True])
def test_displacements_and_poses_are_not_taken_for_each_other(folder: Path, absolute: bool) -> None:
    path = as_others_record(folder, absolute)
    relative = RobomimicHDF5(path=path, actions=RELATIVE)
    turned = RobomimicHDF5(path=path, actions=ABSOLUTE, rotation="axis-angle-to-6d")
    right, wrong = (turned, relative) if absolute else (relative, turned)
    assert right.build(None).splits == {"train": 3}
    kind = "positions to go to" if absolute else "displacements"
    said = "delta_position" if absolute else "absolute_position"
    with pytest.raises(DataError, match=f"the actions are said to be {said}, and are {kind}") as caught:
        wrong.build(None)
    assert "relative or absolute" in caught.value.hint


def test_collected_files_say_their_spaces_before_they_are_opened(folder: Path) -> None:
    declared = RobomimicHDF5(path=folder).declared()
    assert declared.actions == RELATIVE and declared.cameras == ("agentview", "robot0_eye_in_hand")
    assert declared.state == SPACES.state
    the_file(folder).write_bytes(b"damaged")  # said when they are opened
    assert RobomimicHDF5(path=folder).declared().actions is None
