"""The network, imported when it is built."""

from torch import nn

from videopolicy import ActionDecoder, weighted_sum


class Regression(ActionDecoder):
    """One hidden layer."""

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
