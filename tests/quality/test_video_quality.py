"""Predicted against real frames of held-out episodes, on films whose future is known exactly."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from videopolicy import Policy, Window
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.contracts.learner import Learner
from videopolicy.errors import VpolicyError, WeightsError
from videopolicy.parts.windows import EpisodeWindows
from videopolicy.quality import measure_quality, read_quality
from videopolicy.quality.meters import frechet_distance
from videopolicy.quality.networks import Networks
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.testing import toy_benchmark, toys
from videopolicy.training.normalization import Normalizer, statistics_for
from videopolicy.training.session import Session
from videopolicy.training.stages import ScaledPolicy

SIZE, STEPS, OFFSETS = 40, 30, (0, 2, 4)


def film(seed: int) -> torch.Tensor:
    """A picture that moves by one pixel a step: ``(STEPS, 3, SIZE, SIZE)`` uint8, none brighter than 200."""
    picture = torch.randint(0, 200, (3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return torch.stack([picture.roll(step, -1) for step in range(STEPS)])


class Films:
    """Three training films and four that were held out, of as many steps as asked for."""

    def __init__(self, held_out: int = 4) -> None:
        self.splits = {"train": 3, "validation": held_out}
        self.opened: list[tuple[Window, str]] = []
        self.shown: list[int] = []

    def fingerprint(self, actions: bool = True) -> str:
        return "films"

    def windows(self, window: Window, split: str = "train") -> EpisodeWindows:
        self.opened.append((window, split))
        count = self.splits[split]
        frames = torch.cat([film(seed) for seed in range(count)])
        taken = SimpleNamespace(take=lambda camera, indices: frames[torch.from_numpy(indices)])
        windows = EpisodeWindows(
            window, taken, ["top"], ["wait"] * count, [np.zeros((STEPS, 2), np.float32)] * count, None
        )
        batch = windows.batch

        def counted(indices):
            self.shown += indices
            return batch(indices)

        windows.batch = counted
        return windows


class Seer(Policy):
    """Knows how the films go on, up to a constant error in brightness."""

    clip_offsets = OFFSETS
    predicted_cameras = ("top",)

    def __init__(self, error: int = 5, offsets: tuple[int, ...] = OFFSETS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.error, self.clip_offsets, self.asked = error, offsets, 0

    window = Window(observed=(-1, 0), horizon=4)

    def loss(self, batch):
        raise NotImplementedError

    def act(self, observation, generator):
        raise NotImplementedError

    def predict_video(self, observation, generator, actions=None, steps=30, guidance=1.0):
        assert actions is None, "a policy predicts what itself would do"
        self.asked += len(observation)
        now = observation.images["top"][:, -1]
        clip = torch.stack([now.roll(offset, -1) + (self.error if offset else 0) for offset in self.clip_offsets], 1)
        return clip[:, None]


class Holder(Policy):
    """Predicts no video itself, and has a part that may."""

    window = Window()

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def loss(self, batch):
        raise NotImplementedError

    def act(self, observation, generator):
        raise NotImplementedError


@pytest.fixture
def measure(tmp_path):
    """Measures a policy into one folder."""
    path = tmp_path / "small.yaml"
    path.write_text(
        f"plugins: [{toys.__file__}, {toy_benchmark.__file__}]\n"
        "benchmark: {type: toy}\ndata: {type: robomimic-hdf5}\npolicy: {type: toy}\n"
        "train: [{name: policy, steps: 8, batch_size: 4}]\n"
    )
    recipe, folder = load_recipe(path), tmp_path / "run"
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps({"stages": [{"key": "11aa"}]}))
    one = FieldStatistics([-1.0] * 2, [1.0] * 2, [0.0] * 2, [1.0] * 2)
    normalizer = Normalizer(recipe.normalization, statistics_for(recipe, Statistics(one)))

    def call(policy, dataset=None, **options):
        dataset = Films() if dataset is None else dataset
        options.setdefault("clips", 10)
        reporter = Reporter(quiet=True)
        session = Session(recipe, Store(tmp_path / "home"), torch.device("cpu"), reporter)
        return measure_quality(session, ScaledPolicy(policy, normalizer), dataset, RunFolder(folder), **options)

    call.folder = folder
    return call


def test_known_errors_have_known_values(measure):
    quality = measure(Seer(error=5))
    assert quality.values["psnr"] == pytest.approx(10 * math.log10(255**2 / 25), abs=1e-3)
    assert quality.values["psnr"] > quality.values["psnr_still"] + 10
    assert 0.9 < quality.values["ssim"] < 1 and quality.values["ssim_still"] < 0.3
    assert set(quality.values) == {"psnr", "psnr_still", "ssim", "ssim_still"}
    assert (quality.clips, quality.offsets) == (10, (2, 4))
    assert quality.source == "10 clips of 4 held-out episodes"
    assert read_quality(measure.folder) == quality


def test_a_perfect_prediction_has_no_psnr(measure):
    values = measure(Seer(error=0)).values
    assert values["ssim"] == pytest.approx(1, abs=1e-5) and "psnr" not in values and "psnr_still" in values


def test_clips_are_the_same_for_every_method_and_of_all_held_out_episodes(measure, tmp_path):
    one, other = Films(), Films()
    measure(Seer(), one)
    (measure.folder / "videos" / "quality.json").unlink()
    measure(Seer(offsets=(2, 4, 6, 8)), other)
    assert one.shown == other.shown and len(set(one.shown)) == 10
    assert {index // STEPS for index in one.shown} == {0, 1, 2, 3}
    assert {split for _, split in one.opened} == {"validation"}


def test_what_was_measured_is_not_measured_again(measure):
    first, again = Seer(), Seer()
    quality = measure(first)
    assert measure(again, clips=8) == quality and (first.asked, again.asked) == (10, 0)
    measure(again, clips=12)
    assert again.asked == 12
    (measure.folder / "provenance.json").write_text(json.dumps({"stages": [{"key": "22bb"}]}))
    measure(again, clips=12)
    assert again.asked == 24


def test_other_things_than_video_models_on_held_out_episodes_get_nothing(measure, capsys):
    assert measure(Holder(nn.Linear(1, 1))) is None
    assert measure(Seer(offsets=(0,))) is None
    assert measure(Seer(), Films(held_out=0)) is None
    assert not (measure.folder / "videos").exists() and read_quality(measure.folder) is None


def test_a_damaged_file_is_named_and_measured_anew(measure, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(Reporter, "line", lambda reporter, text: said.append(text))
    measure(Seer())
    assert not any("damaged" in text for text in said)
    path = measure.folder / "videos" / "quality.json"
    for text in ("{", "[]", '{"values": 3}'):
        path.write_text(text)
        assert read_quality(measure.folder) is None
        assert measure(Seer()) == read_quality(measure.folder) != None  # noqa: E711
    assert sum(f"{path} is damaged" in text for text in said) == 3


class Dynamics(Learner):
    """Sees what actions do, and is told those that were executed."""

    window = Window(horizon=4)
    clip_offsets = (2, 4)
    predicted_cameras = ("top",)

    def __init__(self) -> None:
        super().__init__()
        self.told: list[torch.Tensor] = []

    def loss(self, batch):
        raise NotImplementedError

    def predict_video(self, observation, generator, actions=None, steps=30, guidance=1.0):
        self.told.append(actions)
        return observation.images["top"][:, -1:].repeat(1, 2, 1, 1, 1)[:, None]


def test_a_model_of_what_actions_do_is_told_the_executed_ones(measure):
    dynamics = Dynamics()
    values = measure(Holder(dynamics), clips=40).values
    assert values["psnr"] == values["psnr_still"], "it repeats the present frame"
    (told,) = {tuple(actions.shape[1:]) for actions in dynamics.told}
    assert told == (4, 2)
    actions = torch.cat(dynamics.told)
    assert actions[:, 0].isfinite().all() and actions[:, 3].isnan().any(), "past the end nothing was executed"


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """AlexNet of random weights in torchvision's format."""
    from torchvision.models import alexnet as build

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save({f"features.{name}": value for name, value in build(weights=None).features.state_dict().items()}, path)
    return path


def test_lpips_is_that_of_torchmetrics_with_the_given_network(measure, alexnet, monkeypatch, tmp_path):
    from safetensors.torch import save_file
    from torchmetrics.functional.image import lpips
    from torchvision.models import alexnet as build

    values = measure(Seer(), networks=Networks(lpips=alexnet)).values
    weights = torch.load(alexnet)

    def given(net, pretrained):
        network = build(weights=None).features
        network.load_state_dict({name.removeprefix("features."): value for name, value in weights.items()})
        return network

    monkeypatch.setattr(lpips, "_get_tv_model_features", given)
    frames = Films().windows(Window(future=(2, 4)), "validation").batch([4, 40, 100]).future["top"][:, 0]
    reference = lpips._LPIPS(net="alex")
    (measure.folder / "videos" / "quality.json").unlink()
    policy = Seer(offsets=(2,))
    ours = measure(policy, OneClip(4), clips=1, networks=Networks(lpips=alexnet)).values["lpips"]
    expected = reference((frames[:1] + 5) / 127.5 - 1, frames[:1] / 127.5 - 1)
    assert ours == pytest.approx(float(expected), rel=1e-4) and 0 < values["lpips"] < 1
    save_file(weights, tmp_path / "same.safetensors")
    again = measure(policy, OneClip(4), clips=1, networks=Networks(lpips=tmp_path / "same.safetensors"))
    assert again.values["lpips"] == ours
    facts = json.loads((measure.folder / "videos" / "quality.json").read_text())
    assert facts["networks"]["lpips"]["file"] == "same.safetensors"


class OneClip(Films):
    """The held-out films, of which a single window can be cut."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def windows(self, window: Window, split: str = "train"):
        return _One(super().windows(window, split), self.index)


class _One:
    def __init__(self, windows, index):
        self.windows, self.index = windows, index

    def __len__(self):
        return 1

    def batch(self, indices):
        return self.windows.batch([self.index])


class Detector(nn.Module):
    """Has the interface of the I3D network, and features that can be computed by hand."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        if rescale:
            x = x * (2.0 / 255.0) - 1.0
        assert resize and return_features
        return torch.cat([x.mean([2, 3, 4]), x[:, :, 0].std([2, 3])], 1)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "i3d_torchscript.pt"
    torch.jit.script(Detector()).save(path)
    return path


LONG = tuple(range(1, 11))


def test_fvd_is_the_frechet_distance_of_whole_videos(measure, detector):
    quality = measure(Seer(error=20, offsets=LONG), clips=24, networks=Networks(fvd=detector, trust=True))
    whole = [(2 * i + 1) * 120 // 48 for i in range(24)]
    whole = [index for index in whole if index % STEPS <= STEPS - 1 - LONG[-1]]
    assert quality.source == (
        f"24 clips of 4 held-out episodes; FVD of {len(whole)} videos of 10 future frames of 40 x 40 pixels, "
        "a trend below 500"
    )
    # All that differs is the brightness: three of the features are shifted by it.
    assert quality.values["fvd"] == pytest.approx(3 * (20 * 2 / 255) ** 2, rel=1e-3)
    assert measure(Seer(offsets=LONG), clips=24) == quality, "a rerun without the network keeps what is there"


def test_code_runs_only_when_it_is_trusted(measure, detector, tmp_path):
    with pytest.raises(WeightsError, match="program") as caught:
        measure(Seer(offsets=LONG), networks=Networks(fvd=detector))
    assert "--trust" in caught.value.hint
    (tmp_path / "text.pt").write_text("nothing")
    with pytest.raises(WeightsError, match="no TorchScript program"):
        measure(Seer(offsets=LONG), networks=Networks(fvd=tmp_path / "text.pt", trust=True))


@pytest.mark.parametrize("name", ["lpips", "fvd"])
def test_missing_files_are_named(measure, name, tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth cannot be read"):
        measure(Seer(), networks=Networks(**{name: tmp_path / "nowhere.pth"}, trust=True))
    assert not (measure.folder / "videos").exists()


def test_other_weights_than_alexnets_are_refused(measure, tmp_path):
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg16.pth")
    with pytest.raises(WeightsError, match="does not hold AlexNet") as caught:
        measure(Seer(), networks=Networks(lpips=tmp_path / "vgg16.pth"))
    assert "alexnet-owt" in caught.value.hint


def test_clips_that_are_too_short_for_fvd_are_refused(measure, detector):
    with pytest.raises(VpolicyError, match="FVD needs 10 frames at least; the model predicts 2") as caught:
        measure(Seer(), networks=Networks(fvd=detector, trust=True))
    assert "Predict 4 frames or more, which are repeated where they are fewer than 10" in caught.value.hint


class Counter(nn.Module):
    """Reads nothing but how many frames it is shown, the brightness of the first, and whether neighbours are equal."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        if x.shape[2] < 10:
            raise ValueError("pooled to nothing")
        equal = (x[:, :, 1:] == x[:, :, :-1]).float().mean([1, 3, 4]).sum(1)
        frames = torch.full_like(equal, x.shape[2])
        return torch.stack([x[:, :, 0].mean([1, 2, 3]) + 100 * equal, frames], 1)


@pytest.mark.parametrize(("future", "times"), [(4, 4), (7, 3), (9, 2)])
def test_fvd_of_short_clips_repeats_every_frame_and_says_so(measure, tmp_path, monkeypatch, future, times):
    shown = []
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(Counter()).save(path)
    load = torch.jit.load

    class Recorded(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, videos, **options):
            shown.append(videos)
            return self.network(videos, **options)

    monkeypatch.setattr(torch.jit, "load", lambda *args, **options: Recorded(load(*args, **options)))
    offsets = tuple(range(1, future + 1))
    quality = measure(Seer(error=20, offsets=offsets), networks=Networks(fvd=path, trust=True))
    assert f"videos of {future} future frames of 40 x 40 pixels, each {times} times" in quality.source
    assert quality.values["fvd"] == pytest.approx(20**2, rel=1e-3)
    video = shown[0]
    assert video.shape[2] == future * times >= 16
    frames = video.unflatten(2, (future, times))
    assert (frames == frames[:, :, :, :1]).all() and not (frames[:, :, 1:, 0] == frames[:, :, :-1, 0]).all()


@pytest.mark.parametrize(("videos", "others"), [(200, 300), (5, 7)])
def test_frechet_distance_is_the_formula_of_fid(videos, others):
    random = np.random.default_rng(0)
    mix = random.normal(size=(6, 6))
    ours, theirs = random.normal(size=(videos, 6)) @ mix + 0.3, random.normal(size=(others, 6))
    one, two = np.cov(ours, rowvar=False), np.cov(theirs, rowvar=False)
    root = linalg.sqrtm(one @ two).real
    expected = np.square(ours.mean(0) - theirs.mean(0)).sum() + np.trace(one + two - 2 * root)
    assert frechet_distance(ours, theirs) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(ours, ours) == pytest.approx(0, abs=1e-9)
