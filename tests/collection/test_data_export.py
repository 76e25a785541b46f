"""``vpolicy data export``: a recipe's data in another layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import vpolicy
from toy_recipes import linear

from videopolicy.components.kinds import DatasetComponent
from videopolicy.components.registry import current_registry
from videopolicy.contracts.dataset import Dataset
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_data import toy_episode
from videopolicy.types import Window

EPISODES = 3


def opened(name: str, **options: object) -> Dataset:
    component = current_registry().get("dataset", name).model_validate({"type": name, **options})
    assert isinstance(component, DatasetComponent)
    return component.build(None)


def everything(dataset: Dataset, split: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Sentences, actions and future masks of all windows."""
    windows = dataset.windows(Window(horizon=1, future=(1,)), split)
    batch = windows.batch(range(len(windows)))
    return batch.observation.instructions, batch.actions.numpy(), batch.future_mask.numpy()


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = "robomimic-hdf5"
    component = current_registry().get("dataset", name).model_validate({"type": name})
    folder, spaces = tmp_path_factory.mktemp("export") / "data", ToyBenchmark().spaces()
    writer = component.writer(folder, spaces)
    for task in ("red", "blue"):
        for attempt in range(EPISODES):
            episode = toy_episode(spaces, task, attempt, steps=5 + attempt)
            episode.facts = {"expert": "scripted"}
            writer.add(episode)
    return writer.finish({task: list(range(EPISODES)) for task in ("red", "blue")})


@pytest.fixture
def recipe(tmp_path: Path, demonstrations: Path) -> tuple[str, ...]:
    (tmp_path / "toy.yaml").write_text(linear("episodes: 0"))
    data = f"data={{type: robomimic-hdf5, path: {demonstrations}, validation: 0.34}}"
    return "data", "export", "toy.yaml", data, "--format", "lerobot"


@pytest.mark.parametrize("name", ["lerobot", "robomimic-hdf5"])
def test_episodes_are_the_same_in_the_other_layout(
    tmp_path: Path, demonstrations: Path, recipe: tuple[str, ...], name: str
) -> None:
    done = vpolicy(tmp_path, *recipe, "data.window_stride=2", "--format", name, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "6 episodes (4 train, 2 validation), 36 steps" in " ".join(done.stdout.split())
    source = opened("robomimic-hdf5", path=demonstrations, validation=0.34)
    if name == "lerobot":
        copy = opened("lerobot-v3", path=tmp_path / "out")
        assert copy.splits == source.splits and copy.spaces == source.spaces
        for split in source.splits:
            (texts, actions, ends), (there, same, also) = everything(source, split), everything(copy, split)
            assert texts == there and np.array_equal(actions, same) and np.array_equal(ends, also)
    else:
        copy = opened("robomimic-hdf5", path=tmp_path / "out")
        actions = {row.tobytes() for split in source.splits for row in everything(source, split)[1]}
        assert {row.tobytes() for row in everything(copy, "train")[1]} == actions and copy.splits == {"train": 6}


def test_where_episodes_come_from_is_kept(tmp_path: Path, recipe: tuple[str, ...]) -> None:
    assert vpolicy(tmp_path, *recipe, "-o", "out").returncode == 0
    provenance = json.loads((tmp_path / "out/meta/videopolicy.json").read_text())["provenance"]
    assert provenance["benchmark"] == "toy" and provenance["exported_from"] == "robomimic-hdf5"
    assert "6 of 6 episodes are demonstrations of a scripted expert, not of a human" in provenance["remarks"]
    assert "scripted expert, not of a human" in (tmp_path / "out/README.md").read_text()
    remarks = opened("lerobot-v3", path=tmp_path / "out").remarks
    assert remarks[0] == "6 of 6 episodes are demonstrations of a scripted expert, not of a human"


def test_a_killed_export_goes_on_with_the_same_data_only(
    tmp_path: Path, recipe: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vpolicy_lerobot.writer import LeRobotWriter

    add, added = LeRobotWriter.add, []

    def killed(self: LeRobotWriter, episode: object) -> None:
        if len(added) == 4:
            raise KeyboardInterrupt
        added.append(episode)
        add(self, episode)

    with monkeypatch.context() as patch:
        patch.setattr(LeRobotWriter, "add", killed)
        assert vpolicy(tmp_path, *recipe, "-o", "out").returncode == 2
    assert not (tmp_path / "out/meta/info.json").exists()
    other = vpolicy(tmp_path, *recipe, "data.validation=0.0", "-o", "out")
    assert other.returncode == 2 and "no export of these data" in " ".join(other.stderr.split())
    more: list[object] = []
    monkeypatch.setattr(LeRobotWriter, "add", lambda self, episode: (more.append(episode), add(self, episode))[1])
    assert vpolicy(tmp_path, *recipe, "-o", "out").returncode == 0
    assert len(more) == 2 and len(list((tmp_path / "out").glob("data/*/*"))) == 1
    again = vpolicy(tmp_path, *recipe, "-o", "out")
    assert again.returncode == 2 and "is not empty" in " ".join(again.stderr.split())


def test_what_cannot_be_exported_is_explained(tmp_path: Path, recipe: tuple[str, ...]) -> None:
    unknown = vpolicy(tmp_path, *recipe, "--format", "lerobt", "-o", "out")
    assert unknown.returncode == 2 and "lerobot-v3" in unknown.stderr
    hidden = vpolicy(tmp_path, *recipe, "data.actionless_tasks=[red]", "-o", "out")
    assert hidden.returncode == 2 and "actionless_tasks" in hidden.stderr
    (tmp_path / "file").write_text("")
    file = vpolicy(tmp_path, *recipe, "-o", "file")
    assert file.returncode == 2 and "is a file" in file.stderr
    unnamed = vpolicy(tmp_path, *recipe[:4], "-o", "out")
    assert unnamed.returncode == 2 and "Name one with --format" in unnamed.stderr
    uncollected = vpolicy(tmp_path, "data", "export", "toy.yaml", "--format", "lerobot", "-o", "out")
    assert uncollected.returncode == 2 and "vpolicy data collect toy.yaml" in " ".join(uncollected.stderr.split())
