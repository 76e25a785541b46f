"""What is seen of a mixture follows from ratios, the seed and the step, and from nothing else."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import save_after_every_step
from regression import KilledError
from torch import Tensor, nn

from videopolicy import NO_ACTIONS, Batch, Camera, DataError, Dataset, Learner, Observation, Spaces, Window
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.recipes.recipe import Normalization, Stage
from videopolicy.training.curves import read_curves
from videopolicy.training.lightning_loop import train_stage
from videopolicy.training.mixture import VIEW, Mixture, OpenPart
from videopolicy.training.normalization import Normalizer
from videopolicy.training.validation import validation_windows
from videopolicy.views import resized

WINDOW = Window(future=(2, 4))
NONE = Statistics(FieldStatistics([], [], [], []))


class Stills(Dataset):
    """Windows whose frames all have one value: the number of the window, or 100 more for the second camera."""

    def __init__(self, count: int, size: int = 8, held_out: int = 0, text: str = "a") -> None:
        self.count, self.size, self.held_out, self.text = count, size, held_out, text
        self.asked: list[Window] = []

    @property
    def spaces(self) -> Spaces:
        cameras = tuple(Camera(name=name, height=self.size, width=self.size) for name in ("one", "two"))
        return Spaces(cameras=cameras, actions=NO_ACTIONS)

    @property
    def splits(self) -> dict[str, int]:
        return {"train": self.count, **({"validation": self.held_out} if self.held_out else {})}

    def fingerprint(self, actions: bool = True) -> str:
        return f"{self.count} {self.size} {self.held_out}"

    def statistics(self) -> Statistics:
        return NONE

    def initial_states(self) -> frozenset[str]:
        return frozenset()

    def windows(self, window: Window, split: str = "train") -> StillWindows:
        self.asked.append(window)
        return StillWindows(self.splits[split], self.size, self.text, window)


class StillWindows:
    def __init__(self, count: int, size: int, text: str, window: Window) -> None:
        self.count, self.size, self.text, self.window = count, size, text, window

    def __len__(self) -> int:
        return self.count

    def batch(self, indices) -> Batch:
        def frames(number: int, more: int) -> Tensor:
            values = torch.tensor(list(indices), dtype=torch.uint8) + more
            return values.view(-1, 1, 1, 1, 1).expand(-1, number, 3, self.size, self.size).contiguous()

        later = len(self.window.future)
        return Batch(
            Observation({"one": frames(1, 0), "two": frames(1, 100)}, [self.text] * len(indices)),
            future={"one": frames(later, 0), "two": frames(later, 100)},
            future_mask=torch.ones(len(indices), later, dtype=torch.bool),
        )


def mixed(*ratios: float, counts: tuple[int, ...] = (40, 7, 3), **options) -> Mixture:
    parts = [
        OpenPart(f"p{n}", ratio, Stills(count, text=f"p{n}"), **options)
        for n, (ratio, count) in enumerate(zip(ratios, counts, strict=False))
    ]
    return Mixture(parts)


def seen(mixture: Mixture, steps: range, batch_size: int = 8, seed: int = 3) -> list[tuple[str, int]]:
    """Part and pixel value of every window, in order."""
    windows = mixture.windows(WINDOW)
    order = windows.order(batch_size, seed)
    batches = [windows.batch(order.indices(step)) for step in steps]
    return [
        (text, int(image[0, 0, 0, 0]))
        for batch in batches
        for text, image in zip(batch.observation.instructions, batch.observation.images[VIEW], strict=True)
    ]


def test_parts_are_seen_by_their_ratios_whatever_their_sizes() -> None:
    found = Counter(name for name, _ in seen(mixed(0.2, 0.5, 0.3), range(2500)))
    shares = [found[f"p{number}"] / 20_000 for number in range(3)]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.01)
    one = [name for name, _ in seen(mixed(0.5, 0.5), range(200))]
    alike = sum(a == b for a, b in itertools.pairwise(one)) / len(one)
    assert alike == pytest.approx(0.5, abs=0.05)  # drawn for every window, and not taken in turns


def test_every_window_of_a_part_is_seen_before_one_is_seen_again() -> None:
    found = seen(mixed(0.2, 0.5, 0.3), range(400))
    for name, count in (("p0", 40), ("p1", 7), ("p2", 3)):
        values = [value for part, value in found if part == name]
        for begin in range(0, len(values) - count, count):
            assert sorted(values[begin : begin + count]) == list(range(count))


def test_the_order_is_a_function_of_seed_and_step() -> None:
    mixture = mixed(0.2, 0.5, 0.3)
    whole = seen(mixture, range(1200))  # over several blocks of draws
    assert seen(mixture, range(1100, 1200)) == whole[1100 * 8 :]
    assert seen(mixture, range(2200, 2400), batch_size=4) == whole[1100 * 8 :]
    assert seen(mixture, range(50), seed=4) != whole[: 50 * 8]


def test_views_are_windows_of_their_own_and_seen_as_often_as_is_said() -> None:
    mixture = mixed(1.0, cameras={"two": 0.25, "one": 0.75})
    values = np.array([value for _, value in seen(mixture, range(1000))])
    assert (values >= 100).mean() == pytest.approx(0.25, abs=0.02)
    assert [camera.name for camera in mixture.spaces.cameras] == [VIEW]
    assert all(value < 100 for _, value in seen(mixed(1.0), range(100)))  # the first camera, unless more is said
    with pytest.raises(DataError, match="Part 'p0' has no camera three; it has one, two"):
        mixed(1.0, cameras={"three": 1.0})


def test_windows_can_begin_more_rarely() -> None:
    values = [value for _, value in seen(mixed(1.0, window_stride=3, cameras={"one": 0.5, "two": 0.5}), range(100))]
    assert set(values) == {100 * view + window for view in (0, 1) for window in range(0, 40, 3)}


def test_every_part_has_a_stride_of_its_own() -> None:
    parts = [OpenPart("a", 0.5, Stills(5), stride=5), OpenPart("b", 0.5, Stills(5))]
    Mixture(parts).windows(Window(observed=(-2, 0), future=(2, 6)))
    assert parts[0].dataset.asked == [Window(observed=(-5, 0), future=(5, 15))]
    assert parts[1].dataset.asked == [Window(observed=(-2, 0), future=(2, 6))]


def test_pictures_of_all_sizes_come_at_the_models() -> None:
    parts = [OpenPart("a", 0.5, Stills(5, size=16)), OpenPart("b", 0.5, Stills(9, size=4))]
    mixture = Mixture(parts, (6, 8))
    windows = mixture.windows(WINDOW)
    batch = windows.batch([11, 2, 13, 5])
    assert batch.observation.images[VIEW].shape == (4, 1, 3, 6, 8) and batch.future[VIEW].shape == (4, 2, 3, 6, 8)
    assert [int(one[0, 0, 0, 0]) for one in batch.observation.images[VIEW]] == [6, 2, 8, 0]
    large = parts[0].dataset.windows(WINDOW).batch([2])
    assert torch.equal(batch.future[VIEW][1:2], resized(large.future["one"], (6, 8)))
    assert Mixture(parts).spaces.cameras[0].height == 16


def test_the_content_of_a_mixture_is_its_parts_and_how_they_are_seen() -> None:
    base = mixed(0.5, 0.5)
    others = [mixed(0.4, 0.6), mixed(0.5, 0.5, counts=(41, 7)), mixed(0.5, 0.5, stride=3)]
    others += [mixed(0.5, 0.5, window_stride=2)]
    others += [mixed(0.5, 0.5, cameras={"one": 0.5, "two": 0.5})]
    prints = [one.fingerprint() for one in (base, *others)]
    assert len(set(prints)) == len(prints) and mixed(0.5, 0.5).fingerprint() == prints[0]


class Guess(Learner):
    """Learns how bright pictures are, with noise on every step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.level = nn.Parameter(torch.zeros(1))

    @property
    def window(self) -> Window:
        return WINDOW

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        bright = batch.observation.images[VIEW].float().mean(dim=(1, 2, 3, 4)) / 100
        return {"video": ((self.level + 0.1 * torch.randn_like(bright) - bright) ** 2).mean()}


def train(folder: Path, killed_after: int | None = None, **options) -> Guess:
    learner, mixture = Guess(), mixed(0.2, 0.5, 0.3)
    original, calls = learner.loss, []

    def loss(batch: Batch) -> dict[str, Tensor]:
        calls.append(learner.training)
        if killed_after is not None and sum(calls) > killed_after:
            raise KilledError
        return original(batch)

    learner.loss = loss
    stage = Stage(name="video", steps=40, batch_size=8, validate_every=10, optimizer={"learning_rate": 1e-2}, **options)
    folder.mkdir(exist_ok=True)
    arguments = learner, Normalizer(Normalization(), NONE), mixture.windows(WINDOW), stage, 0, folder
    train_stage(*arguments, Reporter(quiet=True), measured=validation_windows(mixture, WINDOW))
    return learner


def test_a_killed_stage_ends_with_the_same_weights_and_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_after_every_step(monkeypatch)
    whole = train(tmp_path / "whole")
    for killed_after in (13, 9):
        with pytest.raises(KilledError):
            train(tmp_path / "killed", killed_after)
    resumed = train(tmp_path / "killed")
    loaded = train(tmp_path / "loaded", data_workers=2)
    assert torch.equal(whole.level, resumed.level) and torch.equal(whole.level, loaded.level)
    assert read_curves(tmp_path / "whole") == read_curves(tmp_path / "killed")


def test_validation_is_of_every_part_and_changes_nothing(tmp_path: Path) -> None:
    learner = train(tmp_path / "measured")
    curves = read_curves(tmp_path / "measured")
    for name in ("p0", "p1", "p2"):
        rows = curves[f"validation/{name}/video"]
        assert [step for step, _ in rows] == [0, 10, 20, 30, 40]
    values = [value for _, value in curves["validation/p0/video"]]
    assert values[-1] < values[0]  # of the others the pictures are black
    unmeasured = Stage(name="video", steps=40, batch_size=8, optimizer={"learning_rate": 1e-2})
    other, folder = Guess(), tmp_path / "unmeasured"
    folder.mkdir()
    normalizer = Normalizer(Normalization(), NONE)
    train_stage(other, normalizer, mixed(0.2, 0.5, 0.3).windows(WINDOW), unmeasured, 0, folder, Reporter(quiet=True))
    assert torch.equal(learner.level, other.level)


def test_validation_is_on_what_is_held_out_where_something_is() -> None:
    parts = [OpenPart("a", 0.5, Stills(5, held_out=2)), OpenPart("b", 0.5, Stills(9))]
    assert {name: len(one) for name, one in validation_windows(Mixture(parts), WINDOW).items()} == {"a": 2, "b": 9}
    assert {name: len(one) for name, one in validation_windows(Stills(5, held_out=3), WINDOW).items()} == {"": 3}
