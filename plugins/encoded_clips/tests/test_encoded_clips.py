"""A stage trains on latents as it does on the frames that they were encoded from."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command import vpolicy
from regression import KilledError
from toy_recipes import video
from video_samples import vpp_folder
from vpolicy_encoded_clips.components import EncodedClips
from vpolicy_encoded_clips.windows import ShardOrder
from vpolicy_encoded_clips.writer import ShardWriter

from videopolicy import DataError, Window
from videopolicy.data import encoding
from videopolicy.storage.files import locked_file

pytest.importorskip("litdata")

STAGE = "name: video, target: policy.extractor.backbone, steps: 12, batch_size: 4, validate_every: 6, data_workers: 0"
CLIPS = "{type: vpp-videos, path: clips, image_size: [24, 24]}"
WHOLE = "{type: vpp-videos, path: whole, image_size: [24, 24], sampling: whole-clip}"
RECIPE = video(
    (f"{STAGE}, data: [{{name: a, ratio: 0.5, data: {CLIPS}}}, {{name: b, ratio: 0.5, data: {WHOLE}}}]",),
    "episodes: 0",
)
VAE = "policy.extractor.backbone.latent={type: vae, channels: [32, 32, 32], layers: 1, training_latents: mode}"
ENCODED = [f"train.video.data.{name}.data={{type: encoded-clips, path: out/{name}}}" for name in "ab"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    vpp_folder(tmp_path / "clips", lengths=(21, 11))
    vpp_folder(tmp_path / "whole", lengths=(7, 9, 5))
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(encoding, "BLOCK", 4)
    return tmp_path


def encode(folder: Path, *overrides: str, output: str = "out") -> str:
    done = vpolicy(folder, "data", "encode", "r.yaml", "data=null", "-o", output, *overrides)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(folder: Path, name: str, *overrides: str) -> dict[tuple[str, int], float]:
    done = vpolicy(folder, "run", "r.yaml", "data=null", f"name={name}", *overrides)
    assert done.returncode == 0, done.stderr
    with (folder / "runs" / name / "train.csv").open(newline="") as handle:
        return {(row["name"], int(row["step"])): float(row["value"]) for row in csv.DictReader(handle)}


@pytest.mark.parametrize("latent", [(), (VAE,)], ids=["cells", "autoencoder"])
def test_training_on_latents_gives_the_losses_of_encoding_on_the_way(folder: Path, latent: tuple[str, ...]) -> None:
    said = encode(folder, *latent)
    assert "19 windows in out/a" in said and "train.video.data.b.data={type: encoded-clips, path: out/b}" in said
    there, here = losses(folder, "latents", *latent, *ENCODED), losses(folder, "frames", *latent)
    assert len(there) > 6 and there.keys() == here.keys()
    for key, value in there.items():
        assert value == pytest.approx(here[key], rel=1e-4), key


def test_one_set_alone_is_read_by_cameras(folder: Path) -> None:
    (folder / "r.yaml").write_text(video((f"{STAGE}, data: {CLIPS}",), "episodes: 0"), encoding="utf-8")
    encode(folder)
    windows = EncodedClips(path=folder / "out").build(None).windows(Window(future=(2,)))
    batch = pickle.loads(pickle.dumps(windows)).batch([0, 16, 3])
    assert batch.latents["video"].shape == (3, 2, 48, 4, 4) and batch.observation.images == {}
    assert batch.observation.instructions == ["do train 0", "do train 1", "do train 0"]
    assert batch.future_mask.tolist() == [[True], [False], [True]]
    assert torch.equal(batch.latents["video"][1, 0], batch.latents["video"][1, 1])  # the last frame, repeated


def test_encoding_goes_on_where_it_was_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(folder, VAE, "policy.extractor.backbone.latent.training_latents=sample")
    real, added = ShardWriter.add, []

    def add(self: ShardWriter, block: int, runs: object) -> None:
        if len(added) == 3:
            raise KilledError
        real(self, block, runs)
        added.append(block)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "add", add)
        with pytest.raises(KilledError):
            encode(folder, VAE, "policy.extractor.backbone.latent.training_latents=sample", output="again")
    assert not list((folder / "again").rglob("clips.json"))
    with pytest.raises(DataError, match=r"holds no finished latents: there is no clips.json"):
        EncodedClips(path=folder / "again/a").build(None)
    encode(folder, VAE, "policy.extractor.backbone.latent.training_latents=sample", output="again")
    ours = {path.relative_to(folder / "out"): path for path in sorted((folder / "out").rglob("*.*")) if path.is_file()}
    assert sum(path.suffix == ".bin" for path in ours) == 5 + 1 + 1 + 1
    for name, path in ours.items():
        assert (folder / "again" / name).read_bytes() == path.read_bytes(), name


def test_processes_take_blocks_that_nobody_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "SECONDS_BETWEEN_LOOKS", 0.05)
    place = folder / "out/a/train/video"
    (place / ".locks").mkdir(parents=True)
    helper = threading.Thread(target=encode, args=(folder,))
    with locked_file(place / ".locks/000001", "what another process does"):
        helper.start()
        deadline = time.monotonic() + 60
        while len(list(place.glob("block-*.json"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sorted(path.stem for path in place.glob("block-*.json")) == [f"block-{n:06d}" for n in (0, 2, 3, 4)]
        assert not (place / "clips.json").exists()
    helper.join(60)
    assert (place / "clips.json").is_file()


def test_windows_are_shuffled_among_some_shards_at_a_time_and_by_the_step_alone() -> None:
    sizes = np.array([4, 4, 4, 4, 1])
    whole = ShardOrder(sizes, 2, 3, seed=5)
    seen = [index for step in range(17) for index in whole.indices(step)]
    for epoch in range(3):
        assert sorted(seen[17 * epoch : 17 * (epoch + 1)]) == list(range(17))
    assert ShardOrder(sizes, 2, 3, seed=5).indices(9) == whole.indices(9)
    owner = np.repeat(np.arange(5), sizes)
    at_once = [len(set(owner[seen[start : start + 4]])) for start in range(0, 17, 4)]
    assert max(at_once) <= 4 and seen[:17] != sorted(seen[:17])
    first = [set(owner[seen[:8]].tolist())]
    assert len(first[0]) <= 3  # of two shards, and what a short third one adds


def test_latents_of_something_else_are_not_trained_on(folder: Path) -> None:
    encode(folder)

    def says(*overrides: str) -> str:
        done = vpolicy(folder, "run", "r.yaml", "data=null", "name=other", *overrides)
        assert done.returncode == 2, done.stdout
        return done.stderr

    assert "encoded by another autoencoder, or at another size" in says(
        *ENCODED, "policy.extractor.backbone.image_size=[32, 32]"
    )
    assert "a hold latents and b pictures" in says(ENCODED[0])
    assert "are of frames at 0, 2, and frames at 0, 3 are asked for" in says(
        *ENCODED, "policy.extractor.backbone.stride=3"
    )
    assert "learns from pictures with these options" in says(*ENCODED, "policy.extractor.backbone.image_noise=0.1")


def test_damaged_shards_are_named(folder: Path) -> None:
    encode(folder)
    place = folder / "out/a/train/video"
    shard = sorted(place.glob("*.bin"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-8])
    with pytest.raises(DataError, match=r"The shard .*chunk-0-1\.bin is missing or cut short"):
        EncodedClips(path=folder / "out/a").build(None)
    shard.write_bytes(whole)
    index = json.loads((place / "index.json").read_text())
    index["config"]["data_format"] = ["pickle"]
    (place / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="is not of shards that `vpolicy data encode` has written"):
        EncodedClips(path=folder / "out/a").build(None)


def test_other_data_are_not_put_among_what_is_there(folder: Path) -> None:
    encode(folder)
    shutil.rmtree(folder / "clips/videos/val")
    shutil.rmtree(folder / "clips/annotation/val")
    vpp_folder(folder / "clips", lengths=(21, 11), held_out=2)
    done = vpolicy(folder, "data", "encode", "r.yaml", "data=null", "-o", "out")
    assert done.returncode == 2 and "holds latents of other data, or encoded otherwise" in done.stderr


def test_which_stage_is_meant(folder: Path) -> None:
    done = vpolicy(folder, "data", "encode", "r.yaml", "data=null", "--stage", "vide")
    assert done.returncode == 2 and "no stage 'vide'. Did you mean 'video'?" in done.stderr
    done = vpolicy(folder, "data", "encode", "r.yaml", "data=null", "policy.extractor.backbone.image_noise=0.1")
    assert done.returncode == 2 and "None of the stages video train what encodes frames" in done.stderr
