"""A plugin file whose parts break one promise each: the one that `fault` names."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from videopolicy import (
    Branch,
    Dataset,
    DatasetComponent,
    EncodedText,
    FeatureLayout,
    StaticStream,
    TextComponent,
    TextEncoder,
    Window,
    hookimpl,
)
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.testing import toy_batch
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_models import ToyActions, ToyPictures, ToyReflex, ToyVideoModel
from videopolicy.testing.toys import ToyBackbone, ToyDecoder, ToyExtractor, ToyPolicy


class Decoder(ToyActions):
    fault = ""

    def loss(self, stream, actions, mask):
        loss = super().loss(stream, actions, mask)
        return {
            "a vector": loss.expand(2),
            "a number": 0.5,
            "detached": loss.detach(),
            "whole": torch.tensor(3),
        }.get(self.fault, loss)

    def sample(self, stream, generator):
        chunk = super().sample(stream, generator)
        return {
            "short": chunk[:, :-1],
            "wide": torch.cat([chunk, chunk], -1),
            "flat": chunk.flatten(1),
            "whole": chunk.long(),
            "an array": chunk.numpy(),
            "nothing": None,
            "one row": chunk[:1],
            "NaN": chunk / 0 * 0,
        }.get(self.fault, chunk)


class HostileDecoder(ToyDecoder):
    type: Literal["hostile-decoder"] = "hostile-decoder"
    fault: str = ""

    def build(self, layout, spaces):
        if self.fault == "a layer":
            return nn.Linear(2, 2)
        made = Decoder(layout, spaces.actions.dim, self.horizon, self.width, self.steps)
        made.fault = self.fault
        return made


class Unguided(ToyActions):
    """Guides with a scale of its own."""

    def _predict(self, noisy, level, branches):
        chosen = max(branches, key=lambda branch: branch.weight)
        return super()._predict(noisy, level, [Branch(1.0, chosen.tokens)])


class ConstantOverTheChunk(ToyActions):
    """Guides all actions as the first one."""

    def _predict(self, noisy, level, branches):
        return super()._predict(noisy, level, [Branch(branch.weight, branch.tokens) for branch in branches])


class UnguidedDecoder(ToyDecoder):
    type: Literal["unguided"] = "unguided"
    last: bool = False

    def build(self, layout, spaces):
        kind = ConstantOverTheChunk if self.last else Unguided
        return kind(layout, spaces.actions.dim, self.horizon, self.width, self.steps)


class Pictures(ToyPictures):
    fault = ""

    def stream(self, observation, batch=None, generator=None):
        tokens = super().stream(observation, batch, generator).branches[0].tokens
        branches = {
            "narrow": [Branch(1.0, tokens[..., :-1])],
            "few": [Branch(1.0, tokens[:, :-1])],
            "tensors": [tokens],
            "none": [],
            "one": Branch(1.0, tokens),
            "weight": [Branch(torch.tensor(1.0), tokens)],
            "NaN": [Branch(1.0, tokens * torch.nan)],
        }.get(self.fault, [Branch(1.0, tokens)])
        if self.fault == "features":
            return tokens
        layout = FeatureLayout(3) if self.fault == "layout" else self.layout
        return StaticStream(observation, layout, branches)


class HostileExtractor(ToyExtractor):
    type: Literal["hostile-extractor"] = "hostile-extractor"
    fault: str = ""

    def build(self, spaces):
        layout = FeatureLayout(3) if self.fault == "other layout" else self.layout(spaces)
        made = Pictures(layout, self.cells)
        if self.fault == "other window":
            made.window = Window(observed=(-1, 0))
        made.fault = self.fault
        return made


class VideoModel(ToyVideoModel):
    fault = ""

    def condition(self, observation, unconditional=False, generator=None):
        return super().condition(observation, unconditional and self.fault != "unguided", generator)

    def denoise(self, noisy, level, condition, taps=(), predict=True):
        found = super().denoise(noisy, level, condition, taps, predict)
        if self.fault == "cropped":
            found.prediction = found.prediction[..., :-1]
        if self.fault == "no taps":
            found.taps = {}
        if self.fault == "thin taps":
            found.taps = {name: tap[:, :, :, :-1] for name, tap in found.taps.items()}
        return found.prediction if self.fault == "prediction" else found

    def training_clip(self, batch):
        clip = super().training_clip(batch)
        if self.fault == "short clip":
            clip.latents = clip.latents[:, :, :-1]
        return clip


class HostileBackbone(ToyBackbone):
    type: Literal["hostile-backbone"] = "hostile-backbone"
    fault: str = ""

    def build(self, spaces):
        made = VideoModel(self.window(), self.taps(), self.size, len(spaces.cameras))
        made.fault = self.fault
        return made


class Reader(TextEncoder):
    def __init__(self, fault):
        super().__init__()
        self.fault, self.weight = fault, nn.Parameter(torch.ones(4))

    def forward(self, sentences):
        numbers = torch.tensor([[len(one), sum(map(ord, one))] for one in sentences]).float()
        pooled = numbers.repeat(1, 2) * self.weight
        tokens = pooled[:, None].expand(-1, 3, -1)
        if self.fault == "a tensor":
            return tokens
        tokens = {"long": tokens.repeat(1, 2, 1), "wide": tokens.repeat(1, 1, 2)}.get(self.fault, tokens)
        return EncodedText(tokens, {"vectors": tokens, "one": pooled[:1]}.get(self.fault, pooled))


class HostileText(TextComponent):
    type: Literal["hostile-text"] = "hostile-text"
    fault: str = ""
    dim = property(lambda self: 4)
    length = property(lambda self: 3)
    pooled_dim = property(lambda self: 4)

    def build(self):
        return Reader(self.fault)


class Reflex(ToyReflex):
    fault = ""

    def loss(self, batch):
        losses = super().loss(batch)
        loss = losses["action"]
        return {
            "a tensor": loss,
            "empty": {},
            "a list": [loss],
            "numbered": {0: loss},
            "a vector": {"action": loss[None]},
            "a number": {"action": loss.item()},
            "detached": {"action": loss.detach()},
        }.get(self.fault, losses)

    def act(self, observation, generator):
        chunk = super().act(observation, generator)
        return {
            "short": chunk[:, :1],
            "an array": chunk.numpy(),
            "wide": torch.cat([chunk, chunk], -1),
            "NaN": chunk * torch.nan,
        }.get(self.fault, chunk)


class HostilePolicy(ToyPolicy):
    type: Literal["hostile-policy"] = "hostile-policy"
    fault: str = ""

    def build(self, spaces):
        if self.fault == "other window":
            return ToyReflex(Window(horizon=self.horizon + 1), len(spaces.cameras), spaces.actions.dim)
        made = Reflex(self.window(), len(spaces.cameras), spaces.actions.dim)
        made.fault = self.fault
        return made


class Samples:
    def __init__(self, spaces, window, fault):
        self.spaces, self.window, self.fault = spaces, window, fault

    def __len__(self):
        return 8

    def batch(self, indices):
        batch = toy_batch(self.spaces, self.window, batch_size=len(indices))
        seen = batch.observation
        match self.fault:
            case "a dictionary":
                return {"actions": batch.actions}
            case "wide actions":
                batch.actions = torch.cat([batch.actions, batch.actions], -1)
            case "double actions":
                batch.actions = batch.actions.double()
            case "no actions":
                batch.actions = None
            case "NaN actions":
                batch.actions[0, 0] = torch.nan
            case "whole mask":
                batch.action_mask = batch.action_mask.long()
            case "float images":
                seen.images = {name: image.float() / 255 for name, image in seen.images.items()}
            case "images last":
                seen.images = {name: image.movedim(2, -1) for name, image in seen.images.items()}
            case "no camera":
                seen.images = {}
            case "one sentence":
                seen.instructions = "push"
            case "listed sentences":
                seen.instructions = [["push"] for _ in indices]
            case "no state":
                seen.state = None
            case "NaN state":
                seen.state[:] = torch.nan
        return batch


class Recorded(Dataset):
    spaces = ToyBenchmark().spaces()
    splits = {"train": 3}  # noqa: RUF012

    def __init__(self, fault):
        self.fault = fault

    def fingerprint(self, actions=True):
        return f"hostile {self.fault}"

    def statistics(self):
        unit = FieldStatistics([-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [0.5, 0.5])
        return Statistics(unit, unit)

    def windows(self, window, split="train"):
        return Samples(self.spaces, window, self.fault)

    def initial_states(self):
        return frozenset()


class HostileData(DatasetComponent):
    type: Literal["hostile-data"] = "hostile-data"
    fault: str = ""

    def build(self, folder):
        return [] if self.fault == "a list" else Recorded(self.fault)


@hookimpl
def vpolicy_components():
    return [
        *(HostileDecoder, UnguidedDecoder, HostileExtractor, HostileBackbone, HostileText, HostilePolicy, HostileData),
        *(ToyBenchmark, ToyDecoder, ToyExtractor, ToyPolicy, ToyBackbone),
    ]
