"""A decoder that regresses actions."""

from typing import Literal

from videopolicy import DecoderComponent, hookimpl


class MyDecoder(DecoderComponent):
    """All actions of a chunk at once from all tokens: no noise, no steps."""

    type: Literal["my-decoder"] = "my-decoder"
    horizon: int = 8

    def build(self, layout, spaces):
        from vpolicy_my_decoder.network import Regression

        return Regression(layout.tokens, layout.dim, self.horizon, spaces.actions.dim)


@hookimpl
def vpolicy_components():
    return [MyDecoder]
