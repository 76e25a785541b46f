"""``videopolicy.load``: a trained policy in Python acts as in its evaluation, and says what does not fit it."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import vpolicy
from toy_recipes import linear

import videopolicy
from videopolicy import DataError, RecipeError, StorageError, VpolicyError, WeightsError
from videopolicy.deployment import DeployedPolicy
from videopolicy.seeds import derived_seed
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.store import Store
from videopolicy.testing.toy_benchmark import ToyBenchmark

ROOT = Path(__file__).resolve().parents[2]
TOY = ToyBenchmark(task_names=("red", "blue"))


@pytest.fixture(scope="module")
def policy(uninterrupted: Any) -> DeployedPolicy:
    from videopolicy.deployment import load

    return load(uninterrupted.run_folder, "cpu", store=Store(uninterrupted.folder / "home"))


def seen(**changes: Any) -> dict[str, Any]:
    """What a policy of the toy benchmark is asked with."""
    draw = np.random.default_rng(0)
    images = {one.name: draw.integers(0, 256, (one.height, one.width, 3), np.uint8) for one in TOY.spaces().cameras}
    state = TOY.spaces().state
    assert state is not None
    asked = {"images": images, "state": np.zeros(state.dim, np.float32), "instruction": TOY.tasks()[0].instruction}
    return {**asked, **changes}


def test_stepping_repeats_what_an_evaluation_recorded(
    policy: DeployedPolicy, uninterrupted: Any, tmp_path: Path
) -> None:
    with WorkerPool(TOY.launch(), Path(sys.executable), 1, tmp_path, TOY.spaces()) as pool:
        for task, episode in ((TOY.tasks()[0], 0), (TOY.tasks()[1], 3)):
            recorded = np.load(uninterrupted.run_folder / "trajectories" / "trained" / f"{task.name}-{episode}.npy")
            policy.reset(derived_seed(0, "trained", task.name, episode))
            now = pool.call(0, "reset", task=task.name, episode=episode)["observation"]
            executed: list[np.ndarray] = []
            while len(executed) < len(recorded):
                executed.append(policy.step(now["images"], now["state"], task.instruction))
                answer = pool.call(0, "step", actions=executed[-1][None], frames=[1])
                now = answer["observations"][1]
            assert answer["success"] or answer["done"]
            # The evaluation computed four rows at once, which rounds differently.
            np.testing.assert_allclose(np.array(executed), recorded, atol=2e-3)


def test_a_chunk_is_in_physical_units_and_follows_the_instruction_and_the_seed(policy: DeployedPolicy) -> None:
    def chunk(seed: int = 0, **changes: Any) -> np.ndarray:
        policy.reset(seed)
        return policy.act(**seen(**changes))

    first = chunk()
    assert first.shape == (policy.horizon, 2) and first.dtype == np.float32
    low, high = (np.array(bound) for bound in (policy.spaces.actions.low, policy.spaces.actions.high))
    assert (first >= low).all() and (first <= high).all() and np.abs(first).max() > 0.01
    assert np.array_equal(chunk(), first)
    assert not np.array_equal(chunk(seed=1), first)
    assert np.abs(chunk(instruction=TOY.tasks()[1].instruction) - first).max() > 1e-3
    pictures = seen()["images"]
    as_floats = {name: torch.from_numpy(image).float() / 255 for name, image in pictures.items()}
    assert np.array_equal(chunk(images=as_floats), first)


def test_another_instruction_begins_anew(policy: DeployedPolicy) -> None:
    asked = seen()
    policy.reset()
    policy.step(**asked)
    second = policy.step(**asked)
    policy.reset()
    policy.step(**asked)
    assert np.array_equal(policy.step(**asked), second)
    other = policy.step(**{**asked, "instruction": TOY.tasks()[1].instruction})
    assert not np.array_equal(other, policy.act(**asked)[0])


def test_the_video_model_shows_what_it_expects(policy: DeployedPolicy) -> None:
    found = policy.predict_video(**seen())
    (camera,) = [one.name for one in TOY.spaces().cameras]
    assert found.frames[camera].shape == (2, 16, 16, 3) and found.frames[camera].dtype == np.uint8
    assert found.offsets == (0, 2)
    assert np.array_equal(policy.predict_video(**seen()).frames[camera], found.frames[camera])
    with pytest.raises(VpolicyError, match="infers no actions"):
        policy.infer_actions(seen()["images"], **seen())


def wrong_images(change: Any) -> dict[str, Any]:
    return {"images": {name: change(image) for name, image in seen()["images"].items()}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {}}, "There is no image of camera"),
        ({"images": np.zeros((16, 16, 3), np.uint8)}, "not a mapping"),
        (wrong_images(lambda image: image[:8]), r"shape \(8, 16, 3\), and the policy was trained on \(16, 16, 3\)"),
        (wrong_images(lambda image: image.transpose(2, 0, 1)), r"shape \(3, 16, 16\)"),
        (wrong_images(lambda image: image.astype(np.float32)), "float32 from 0 to 2"),
        (wrong_images(lambda image: image.astype(np.int64)), "int64"),
        (wrong_images(lambda image: np.full(image.shape, np.nan)), "nan"),
        (wrong_images(lambda image: np.stack([image, image])), "2 frames"),
        ({"state": None}, "There is no state"),
        ({"state": np.zeros(7)}, r"shape \(1, 7\)"),
        ({"state": np.full(2, np.inf)}, "NaN or infinite"),
        ({"instruction": ""}, "conditioned on one"),
        ({"instruction": ["go"]}, "conditioned on one"),
    ],
)
def test_what_does_not_fit_is_named(policy: DeployedPolicy, changes: dict[str, Any], message: str) -> None:
    for ask in (policy.act, policy.step):
        with pytest.raises(DataError, match=message) as caught:
            ask(**seen(**changes))
        assert caught.value.hint
    policy.reset()


def test_an_exported_policy_needs_neither_store_nor_data(
    policy: DeployedPolicy, uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(uninterrupted.folder / "home")
    arguments = ("export", str(uninterrupted.run_folder), "-o", str(tmp_path / "given"))
    done = vpolicy(tmp_path, *arguments, VPOLICY_HOME=home)
    assert done.returncode == 0 and "videopolicy.load(" in done.stdout, done.stderr
    again = vpolicy(tmp_path, *arguments, VPOLICY_HOME=home)
    assert again.returncode == 2 and "--force" in again.stderr
    assert vpolicy(tmp_path, *arguments, "--force", VPOLICY_HOME=home).returncode == 0
    shutil.move(tmp_path / "given", tmp_path / "elsewhere")
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "nothing"))
    modes = {path.stat().st_mode for path in (tmp_path / "elsewhere").iterdir()}
    assert len(modes) == 1, "whoever may read one file of it may read all"
    loaded = videopolicy.load(tmp_path / "elsewhere", "cpu")
    policy.reset()
    assert np.array_equal(loaded.act(**seen()), policy.act(**seen()))
    assert not list((tmp_path / "nothing").rglob("*.safetensors"))


def test_folders_that_hold_no_trained_policy_are_named(uninterrupted: Any, tmp_path: Path) -> None:
    from videopolicy.deployment import load

    with pytest.raises(StorageError, match="There is no run folder"):
        load(tmp_path / "nothing")
    with pytest.raises(WeightsError, match="is not in") as caught:
        load(uninterrupted.run_folder, store=Store(tmp_path / "other"))
    assert "VPOLICY_HOME" in caught.value.hint
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(uninterrupted.run_folder / "recipe.yaml", unfinished)
    with pytest.raises(WeightsError, match=r"Stage video, policy .* has not finished"):
        load(unfinished)


class Constant:
    """An object of somebody else's, which acts alike whatever it sees."""

    def __init__(self, actions: Any) -> None:
        self.actions, self.asked = actions, 0

    def act(self, images: dict[str, np.ndarray], state: np.ndarray | None, instruction: str) -> Any:
        assert all(image.shape == (16, 16, 3) and image.dtype == np.uint8 for image in images.values())
        assert state is not None and state.shape == (2,) and instruction
        self.asked += 1
        return self.actions


def test_evaluating_a_loaded_policy_gives_the_runs_records(policy: DeployedPolicy, uninterrupted: Any) -> None:
    found = videopolicy.evaluate(policy, TOY, episodes=3, workers=2, quiet=True)
    expected = {(one["task"], one["episode"]): one for one in uninterrupted.records() if one["policy"] == "trained"}
    assert len(found.records) == 6
    for record in found.records:
        other = expected[record.task, record.episode]
        assert (record.initial_state, record.protocol) == (other["initial_state"], other["protocol"])
    assert found.summary.mean.episodes == 6


def test_anything_that_acts_is_evaluated() -> None:
    still = Constant(np.zeros((3, 2)))
    found = videopolicy.evaluate(still, TOY, episodes=2, execute=3, workers=1, quiet=True)
    assert found.summary.mean.value == 0 and [one.steps for one in found.records] == [30] * 4
    assert still.asked == 4 * 10
    with pytest.raises(VpolicyError, match=r"Constant.act has returned an array of shape \(3,\)"):
        videopolicy.evaluate(Constant([0, 0, 0]), TOY, episodes=1, workers=1, quiet=True)
    with pytest.raises(VpolicyError, match="image_size") as caught:
        videopolicy.evaluate(still, {"type": "metaworld", "image_size": -1})
    assert caught.value.hint


def test_results_are_the_runs_records(uninterrupted: Any, tmp_path: Path) -> None:
    found = videopolicy.results(uninterrupted.run_folder)
    records = uninterrupted.records()
    assert len(found) == len(records) and set(found.run) == {"small"} and found.error.isna().all()
    keys = ["policy", "task", "episode"]
    ours = found.sort_values(keys)[[*keys, "success", "steps", "initial_state"]].to_dict("records")
    theirs = [
        {name: one[name] for name in ours[0]} for one in sorted(records, key=lambda one: [one[key] for key in keys])
    ]
    assert ours == theirs and (found.solved == found.success).all() and found.attrs["problems"] == []
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(uninterrupted.run_folder / "recipe.yaml", empty)
    assert list(videopolicy.results(empty).columns) == list(found.columns) and videopolicy.results(empty).empty
    with pytest.raises(StorageError, match="There is no run folder"):
        videopolicy.results(tmp_path / "nothing")


def test_the_readmes_recipes_run_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (example,) = [block for block in blocks if "videopolicy.run(" in block]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "quickstart.yaml").write_text(linear("episodes: 2, workers: 1", tasks="red"))
    names: dict[str, Any] = {}
    exec(example, names)
    assert [folder.name for folder in names["folders"]] == ["seed-0", "seed-1"]
    assert set(names["episodes"].run) == {"seed-0", "seed-1"} and len(names["episodes"]) == 4
    assert "count" in capsys.readouterr().out


def test_a_recipe_that_is_wrong_says_so_from_python(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        videopolicy.run(tmp_path / "nothing.yaml")
