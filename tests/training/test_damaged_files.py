"""What we have written ourselves and something has damaged: named in a line, and begun again from what is whole."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import save_after_every_step
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.data.preparation import prepare_data
from videopolicy.errors import StorageError, WeightsError
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.files import locked
from videopolicy.storage.store import Store
from videopolicy.training import lightning_loop, stages
from videopolicy.training.checkpoints import load_normalizer
from videopolicy.training.features import cache_features
from videopolicy.training.planning import plan
from videopolicy.training.resuming import begun, can_be_joined
from videopolicy.training.session import Session
from videopolicy.types import Batch, Observation

RECIPE = linear("episodes: 0, execute: 3", tasks="red").replace("steps: 4", "steps: 40")


class KilledError(Exception):
    """Stands for the end of the process."""


class Said(Reporter):
    """Keeps the lines."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        super().__init__(console=Console(file=self._text, width=400))

    @property
    def text(self) -> str:
        return self._text.getvalue()


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Path:
    """A store that holds the demonstrations and nothing else."""
    folder = tmp_path_factory.mktemp("collected")
    (folder / "small.yaml").write_text(RECIPE)
    prepare_data(load_recipe(folder / "small.yaml"), Store(folder / "home"), Reporter(quiet=True))
    return folder


class Place:
    """A store of its own with the only stage of the recipe."""

    def __init__(self, collected: Path, folder: Path) -> None:
        shutil.copytree(collected, folder)
        self.store, self.said = Store(folder / "home"), Said()
        self.recipe = load_recipe(folder / "small.yaml")
        self.dataset = prepare_data(self.recipe, self.store, self.said).dataset
        (self.planned,) = plan(self.recipe, self.dataset, self.store)
        self.folder = self.planned.folder

    def train(self):
        session = Session(self.recipe, self.store, torch.device("cpu"), self.said)
        return stages.train(session, self.planned, self.dataset)

    def weights(self) -> torch.Tensor:
        return torch.cat([one.flatten() for _, one in sorted(load_file(self.folder / "weights.safetensors").items())])


@pytest.fixture(scope="module")
def whole(collected, tmp_path_factory) -> Place:
    place = Place(collected, tmp_path_factory.mktemp("whole") / "place")
    place.train()
    return place


@pytest.fixture
def killed(collected, tmp_path, monkeypatch) -> Place:
    """Killed right after its first checkpoint."""
    place = Place(collected, tmp_path / "place")
    save = lightning_loop._Watch.save

    def save_and_die(watch, trainer):
        save(watch, trainer)
        raise KilledError

    with monkeypatch.context() as patch:
        save_after_every_step(patch)
        patch.setattr(lightning_loop._Watch, "save", save_and_die)
        with pytest.raises(KilledError):
            place.train()
    assert (place.folder / "checkpoint.ckpt").is_file()
    return place


def zeroed_inside(content: bytes) -> bytes:
    """As a lost page: the archive's directory is whole, and a weight is not."""
    middle = len(content) // 3
    return content[:middle] + bytes(600) + content[middle + 600 :]


def other_types(content: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: bytes(len(c)), zeroed_inside, other_types],
    ids=["cut", "empty", "zeros", "zeros-inside", "list"],
)
def test_a_damaged_checkpoint_is_named_and_the_stage_begins_anew(killed, whole, damage):
    path = killed.folder / "checkpoint.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    assert not killed.train().reused
    assert killed.said.text.count(f"{path} is damaged") == 1
    assert torch.equal(killed.weights(), whole.weights())
    assert [one.name for one in (killed.folder / "curves").iterdir()] == ["from-000000000"]


def test_a_whole_checkpoint_is_gone_on_from_and_goes_with_the_end(killed, whole):
    killed.train()
    assert "damaged" not in killed.said.text
    assert len(list((killed.folder / "curves").iterdir())) == 2
    assert torch.equal(killed.weights(), whole.weights())
    assert not (killed.folder / "checkpoint.ckpt").exists()
    # One that a kill has left beside a finished stage goes the next time.
    (killed.folder / "checkpoint.ckpt").write_bytes(b"large")
    assert killed.train().reused
    assert not (killed.folder / "checkpoint.ckpt").exists()


def test_a_checkpoint_is_on_disk_before_it_takes_its_place(collected, tmp_path, monkeypatch):
    place, order = Place(collected, tmp_path / "place"), []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor):
        order.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def replaced(self, target):
        order.append(("replace", str(self)))
        return replace(self, target)

    save_after_every_step(monkeypatch)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    place.train()
    part = str(place.folder.absolute() / ".checkpoint.ckpt.part")
    steps = [what for what, path in order if path.endswith(part[-40:])]
    assert steps[:4] == ["sync", "replace", "sync", "replace"]


@pytest.mark.parametrize("text", ["", "\0" * 50, "[]", "3", "null", '{"steps": "many"}', '{"name": "pol'])
def test_a_damaged_mark_of_a_finished_stage_is_named(collected, tmp_path, whole, text):
    place = Place(collected, tmp_path / "place")
    shutil.copytree(whole.folder, place.folder, dirs_exist_ok=True)
    before = (place.folder / "weights.safetensors").stat().st_mtime_ns
    (place.folder / "done.json").write_text(text)
    with pytest.raises(StorageError, match=r"done\.json is damaged") as caught:
        place.train()
    assert f"rm -r {place.folder}" in caught.value.hint
    assert (place.folder / "weights.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["weights.safetensors", "normalization.json", "config.json"])
def test_what_a_finished_stage_ended_with_is_checked_when_it_is_used(collected, tmp_path, whole, name):
    place = Place(collected, tmp_path / "place")
    shutil.copytree(whole.folder, place.folder, dirs_exist_ok=True)
    assert place.train().reused
    content = bytearray((place.folder / name).read_bytes())
    content[-2] ^= 1  # the same size, and still readable
    (place.folder / name).write_bytes(bytes(content))
    for use in (
        place.train,
        lambda: stages.load_policy(place.recipe, [place.planned]),
        lambda: load_recipe_that_begins_with(place),
    ):
        with pytest.raises(StorageError, match=f"{name} is not what was written"):
            use()
    (place.folder / name).unlink()
    with pytest.raises(StorageError, match=f"{name} is missing"):
        place.train()


def load_recipe_that_begins_with(place: Place) -> None:
    from videopolicy.training.inputs import ensure_inputs

    path = place.folder.parents[2] / "small.yaml"
    ensure_inputs(load_recipe(path, [f"train.policy.init_from={place.folder}"]))


def test_what_was_not_touched_is_not_read_again(whole, monkeypatch):
    read = []
    digest = "videopolicy.storage.integrity.file_digest"
    original = __import__("videopolicy.storage.files", fromlist=["file_digest"]).file_digest
    monkeypatch.setattr(digest, lambda path: read.append(path.name) or original(path))
    whole.train()
    assert read == []
    (whole.folder / "weights.safetensors").touch()
    whole.train()
    whole.train()
    assert read == ["weights.safetensors"]


def test_a_scaling_that_cannot_be_read_is_named(tmp_path):
    for text in ("", "[]", '{"modes": {}, "statistics": {}}', '{"modes": 3, "statistics": {"state": 1, "actions": 2}}'):
        (tmp_path / "normalization.json").write_text(text)
        with pytest.raises(WeightsError, match=r"normalization\.json cannot be read"):
            load_normalizer(tmp_path)


def test_a_stage_that_another_process_finishes_meanwhile_is_not_trained_again(collected, tmp_path, whole):
    place, held = Place(collected, tmp_path / "place"), threading.Event()

    def another_process():
        with locked(place.folder, "a stage"):
            held.set()
            deadline = time.monotonic() + 60
            while "this one waits for it" not in place.said.text and time.monotonic() < deadline:
                time.sleep(0.02)
            shutil.copytree(whole.folder, place.folder, dirs_exist_ok=True)

    thread = threading.Thread(target=another_process)
    thread.start()
    held.wait()
    before = (whole.folder / "weights.safetensors").stat().st_mtime_ns
    facts = place.train()
    thread.join()
    assert facts.reused and facts.steps == 40
    assert (place.folder / "weights.safetensors").stat().st_mtime_ns == before
    assert "Another process is working on stage 'policy'" in place.said.text


def test_only_processes_of_the_same_launch_join(tmp_path, monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # of an allocation: Lightning starts the others
    assert can_be_joined(tmp_path) is None
    with begun(tmp_path):
        monkeypatch.setenv("MASTER_PORT", "1234")
        assert can_be_joined(tmp_path)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
        assert can_be_joined(tmp_path) is None
    with begun(tmp_path):
        assert can_be_joined(tmp_path)
        monkeypatch.setenv("MASTER_PORT", "1235")
        assert can_be_joined(tmp_path) is None
    assert can_be_joined(tmp_path) is None


def test_data_that_another_process_collects_meanwhile_are_not_collected_again(collected, tmp_path):
    (tmp_path / "home").mkdir()
    (source,) = (collected / "home" / "datasets").iterdir()
    folder, said, held = tmp_path / "home" / "datasets" / source.name, Said(), threading.Event()

    def another_process():
        with locked(folder, "data"):
            held.set()
            deadline = time.monotonic() + 60
            while "this one waits for it" not in said.text and time.monotonic() < deadline:
                time.sleep(0.02)
            shutil.copytree(source, folder, dirs_exist_ok=True)

    thread = threading.Thread(target=another_process)
    thread.start()
    held.wait()
    prepared = prepare_data(load_recipe(collected / "small.yaml"), Store(tmp_path / "home"), said)
    thread.join()
    assert prepared.facts.reused


class Pictures(nn.Module):
    """The mean of every state, as features."""

    def frozen_features(self, observation, generator):
        return observation.state.mean((1, 2))[:, None]


class Numbers:
    """300 windows: more than are flushed at once."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 300

    def batch(self, indices) -> Batch:
        self.read += len(indices)
        return Batch(Observation({}, [""] * len(indices), torch.tensor([[[float(i)]] for i in indices])))


class Plain:
    def observation(self, observation):
        return observation


def features(folder: Path, said: Said, fails_after: int | None = None) -> tuple[np.ndarray, int]:
    windows = Numbers()
    if fails_after is not None:
        batch = windows.batch

        def failing(indices):
            if windows.read >= fails_after:
                raise KilledError
            return batch(indices)

        windows.batch = failing
    found = cache_features(Pictures(), Plain(), windows, 0, folder, torch.device("cpu"), said)
    return np.array(found.features)[:, 0], windows.read


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def zero(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[300:340] = bytes(40)
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, zero, empty])
def test_damaged_features_are_named_and_computed_again(tmp_path, damage):
    said, expected = Said(), np.arange(300, dtype=np.float16)
    assert features(tmp_path, said)[1] == 300
    assert features(tmp_path, said)[1] == 0 and said.text == ""
    damage(tmp_path / "features.npy")
    found, read = features(tmp_path, said)
    assert np.array_equal(found, expected) and read == 300
    assert "features.npy" in said.text and "The features are computed again." in said.text


@pytest.mark.parametrize(
    ("name", "damage"),
    [("features.npy", cut), ("features.npy", zero), ("features.npy", empty), ("progress.json", empty)],
)
def test_features_go_on_only_from_what_is_whole(tmp_path, name, damage):
    said, expected = Said(), np.arange(300, dtype=np.float16)
    with pytest.raises(KilledError):
        features(tmp_path, said, fails_after=272)
    found, read = features(tmp_path, said)
    assert np.array_equal(found, expected) and read == 300 - 256
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(KilledError):
        features(tmp_path, said, fails_after=272)
    damage(tmp_path / name)
    found, read = features(tmp_path, said)
    assert np.array_equal(found, expected) and read == 300
    assert name in said.text and "from the beginning" in said.text
