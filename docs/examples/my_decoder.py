from typing import Literal

from torch import nn

from videopolicy import ActionDecoder, DecoderComponent, weighted_sum


class Regression(ActionDecoder):
    """All actions of a chunk at once from all tokens: no noise, no steps."""

    def __init__(self, tokens, width, horizon, actions):
        super().__init__()
        self.shape = (horizon, actions)
        self.net = nn.Sequential(nn.Linear(tokens * width, 256), nn.SiLU(), nn.Linear(256, horizon * actions))

    def predict(self, stream, rows):
        level = self.net[0].weight.new_ones(rows)  # any will do: there is no noise to remove
        branches = stream.at(level)
        return weighted_sum(branches, [self.net(one.tokens.flatten(1)).unflatten(1, self.shape) for one in branches])

    def loss(self, stream, actions, mask):
        wrong = self.predict(stream, len(actions))[mask] - actions[mask]  # where there is no action there may be NaN
        return wrong.abs().sum() / max(wrong.numel(), 1)

    def sample(self, stream, generator):
        return self.predict(stream, len(generator))


class MyDecoder(DecoderComponent):
    """What a recipe may say about it."""

    type: Literal["my-decoder"] = "my-decoder"
    horizon: int = 8

    def build(self, layout, spaces):
        return Regression(layout.tokens, layout.dim, self.horizon, spaces.actions.dim)
