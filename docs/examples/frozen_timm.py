"""The last feature map of a frozen timm network: a token for every cell of every camera."""

from typing import Literal

import timm
import torch
from torch import nn

from videopolicy import Branch, ExtractorComponent, FeatureExtractor, FeatureLayout, StaticStream, Window, stack_views
from videopolicy.parts.requirements import missing_cameras
from videopolicy.parts.weights import pretrained_folder

FILE = "model.safetensors"


class FrozenImages(FeatureExtractor):
    """A frozen network and a trained projection."""

    window = Window()  # the current frame alone
    layout = None  # set below; the contract declares it as a property

    def __init__(self, layout, net, side):
        super().__init__()
        self.layout, self.side = layout, side
        self.net = net.requires_grad_(False).eval()
        self.project = nn.Linear(net.num_features, layout.dim)  # all that is trained
        for name in ("mean", "std"):
            values = torch.tensor(net.default_cfg[name]).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def train(self, mode=True):
        super().train(mode)
        self.net.eval()  # or batch norm would go on to learn
        return self

    @property
    def features_are_frozen(self):
        return True

    @torch.no_grad()
    def frozen_features(self, observation, generator):
        pictures = stack_views(observation.images, (self.side, self.side))[:, :, -1]  # (B, V, 3, H, W) in [-1, 1]
        scaled = ((pictures + 1) / 2 - self.mean) / self.std
        maps = self.net.forward_features(scaled.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        return maps.movedim(2, -1).flatten(1, 3)  # (B, V h w, C)

    def stream(self, observation, batch=None, generator=None):
        maps = observation.features
        if maps is None:
            maps = self.frozen_features(observation, generator)
        return StaticStream(observation, self.layout, [Branch(1.0, self.project(maps))])


class FrozenTimm(ExtractorComponent):
    """A frozen convolutional network of timm.

    Args:
        model: Its name in timm.
        weights: Hub id such as ``timm/resnet18.a1_in1k``, or a local folder; none: random numbers.
        image_size: Side in pixels of the square to which pictures are resized.
        stride: Pixels to a cell of its last map.
        width: D, of the tokens.
    """

    type: Literal["frozen-timm"] = "frozen-timm"
    model: str = "resnet18"
    weights: str | None = None
    image_size: int = 96
    stride: int = 32
    width: int = 64

    def window(self):
        return FrozenImages.window

    def layout(self, spaces):
        cells = self.image_size // self.stride
        return FeatureLayout(self.width, (("views", len(spaces.cameras)), ("height", cells), ("width", cells)))

    def check(self, spaces):
        return missing_cameras(self.type, spaces)

    def fetch(self):
        self.folder()

    def folder(self):
        return self.weights and pretrained_folder(self.weights, f"timm's {self.model}", [FILE])

    def build(self, spaces):
        found = self.folder()
        local = {"file": str(found / FILE)} if found else None
        net = timm.create_model(self.model, pretrained=bool(found), pretrained_cfg_overlay=local, num_classes=0)
        return FrozenImages(self.layout(spaces), net, self.image_size)
