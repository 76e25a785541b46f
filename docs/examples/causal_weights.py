"""Weights of `causal-video` that somebody else has published under names of their own."""

import re
from typing import Literal

from videopolicy import Imported, ImporterComponent, WeightsError

NAMES = {"net.0": "first", "net.2": "second", "head": "last"}  # theirs: ours
USELESS = {"step": "counts training steps"}


class CausalWeights(ImporterComponent):
    """Published as ``net.0``, ``net.2`` and ``head`` below ``state_dict``."""

    type: Literal["causal-weights"] = "causal-weights"

    def convert(self, checkpoint):
        state = checkpoint.state  # tensors by name; nothing pickled was run
        ours = {name: re.sub(rf"^({'|'.join(NAMES)})\.", lambda m: f"{NAMES[m[1]]}.", name) for name in state}
        if "net.0.weight" not in state:
            raise WeightsError(f"{checkpoint.path} holds no causal video model.", "Name a file with net.0.weight.")
        wanted = {f"{part}.{kind}" for part in NAMES.values() for kind in ("weight", "bias")}
        return Imported(
            parts={"video model": {ours[name]: state[name] for name in state if ours[name] in wanted}},
            target="policy.extractor.backbone",
            options={"width": len(state["net.0.weight"])},
            dropped={name: why for name, why in USELESS.items() if name in state},
            missing=sorted(wanted - set(ours.values())),
            unexpected=[name for name in state if ours[name] not in wanted and name not in USELESS],
        )
