"""A plugin file: an importer for the toy policy, and a policy whose first half stays frozen."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from torch import nn

from videopolicy import (
    Checkpoint,
    Dataset,
    DatasetComponent,
    FieldStatistics,
    Imported,
    ImporterComponent,
    Policy,
    PolicyComponent,
    Statistics,
    WeightsError,
    Window,
    hookimpl,
)
from videopolicy.testing import toy_batch
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toys import ToyPolicy


class Halves(Policy):
    """Mean colours through a frozen map and then a trained one."""

    def __init__(self, views: int, actions: int) -> None:
        super().__init__()
        self.frozen = nn.Linear(3 * views, 4).requires_grad_(False)
        self.trained = nn.Linear(4, 4 * actions)

    @property
    def window(self) -> Window:
        return Window(horizon=4)

    def _actions(self, observation):
        colours = [image[:, -1].float().mean((2, 3)) / 255 for image in observation.images.values()]
        return self.trained(self.frozen(torch.cat(colours, 1))).unflatten(1, (4, -1))

    def loss(self, batch):
        return {"action": (self._actions(batch.observation) - batch.actions).square()[batch.action_mask].mean()}

    @torch.no_grad()
    def act(self, observation, generator):
        return self._actions(observation)


class HalvesPolicy(PolicyComponent):
    type: Literal["halves"] = "halves"
    scale: float = 1.0

    def window(self) -> Window:
        return Window(horizon=4)

    def build(self, spaces):
        return Halves(len(spaces.cameras), spaces.actions.dim)


class PictureWindows:
    def __init__(self, spaces, window) -> None:
        self.make = lambda rows: toy_batch(spaces, window, batch_size=rows)

    def __len__(self) -> int:
        return 8

    def batch(self, indices):
        return self.make(len(indices))


class PicturesData(DatasetComponent):
    type: Literal["pictures"] = "pictures"

    def build(self, folder):
        return Pictures()


class Pictures(Dataset):
    """Random windows on the toy benchmark, actions between -1 and 1."""

    spaces = ToyBenchmark().spaces()
    splits = MappingProxyType({"train": 3})

    def fingerprint(self, actions=True):
        return "pictures"

    def statistics(self):
        unit = FieldStatistics([-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [0.5, 0.5])
        return Statistics(unit, unit)

    def windows(self, window, split="train"):
        return PictureWindows(self.spaces, window)

    def initial_states(self):
        return frozenset()


class HalvesImporter(ImporterComponent):
    """Reads what the authors of the halves have published.

    Args:
        half: What of it.
    """

    type: Literal["halves"] = "halves"
    half: Literal["both", "trained"] = "both"

    def convert(self, checkpoint: Checkpoint) -> Imported:
        state = checkpoint.state
        if not any(name.startswith("net.") for name in state):
            raise WeightsError(f"{checkpoint.path} is not of the halves.", "Name another file.")
        names = {"net.a.weight": "frozen.weight", "net.a.bias": "frozen.bias"} if self.half == "both" else {}
        names |= {"net.b.weight": "trained.weight", "net.b.bias": "trained.bias"}
        dead = {name: "averages that nobody reads" for name in state if name.startswith("ema.")}
        return Imported(
            {"network": {ours: state[theirs] for theirs, ours in names.items() if theirs in state}},
            dropped=dead,
            missing=[name for name in names if name not in state],
            unexpected=[name for name in state if name not in names and name not in dead],
            left_out=() if self.half == "both" else ("frozen.",),
            not_carried=["The colour of the authors' robot."],
            options={"scale": 1.0},
        )


class ListImporter(ImporterComponent):
    """Writes a folder in another library's layout."""

    type: Literal["list"] = "list"

    def convert(self, checkpoint: Checkpoint) -> Imported:
        return Imported(
            {"all": checkpoint.state}, target="", file="model.safetensors", documents={"config.json": {"size": 2}}
        )


class PairImporter(ImporterComponent):
    """Takes two files of a folder over as they are."""

    type: Literal["pair"] = "pair"

    def files(self, folder: Path) -> Path | dict[str, Path]:
        one = folder / "one.pt"
        return one if one.exists() else {name: folder / name / "x.safetensors" for name in ("a", "b")}

    def convert(self, checkpoint: Checkpoint) -> Imported:
        if checkpoint.path.name == "one.pt":
            return Imported({"all": checkpoint.state}, target="")
        parts = {name: checkpoint.tensors(name) for name in ("a", "b")}
        names = {"trained.weight": parts["a"]["w"], "trained.bias": parts["b"]["w"]}
        return Imported(
            {"both": names},
            target="policy",
            left_out=("frozen.",),
            place="policy.weights",
            files={f"{name}/x.safetensors": checkpoint.path / name / "x.safetensors" for name in parts},
            documents={"a/config.json": {"known": True}},
        )


@hookimpl
def vpolicy_components():
    return [HalvesPolicy, PicturesData, HalvesImporter, ListImporter, PairImporter, ToyBenchmark, ToyPolicy]
