"""The importers `uva`, `mar` and `kl-f16`: published weights for ``vpolicy import``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from videopolicy import Checkpoint, Imported, ImporterComponent


class UvaImporter(ImporterComponent):
    """UVA's checkpoints of all tasks, with their autoencoder and their scaling of actions.

    Files with an action head become a whole policy `uva`; those of the first stage, which have none, its `uva-joint`.
    Sizes and the variant are read off names and shapes: language, proprioception, past actions, a second camera that
    is seen or predicted, how features are aggregated.

    Args:
        weights: Moving averages, as the official evaluation has them, or the weights that were trained.
        heads: Attention heads of the encoder and the decoder, which shapes do not show; None for those of MAR's
            published sizes.
    """

    type: Literal["uva"] = "uva"
    weights: Literal["ema", "model"] = "ema"
    heads: tuple[int, int] | None = None

    def convert(self, checkpoint: Checkpoint) -> Imported:
        from vpolicy_uva.importing.checkpoints import convert

        return convert(checkpoint, self.weights, self.heads)


class MarImporter(ImporterComponent):
    """MAR's ImageNet checkpoint (Li et al. 2024), with which UVA's training begins.

    Reads the moving averages in ``checkpoint-last.pth``. A recipe names the folder as `uva-joint`'s
    ``initial_weights``, which takes what has the same name and shape.
    """

    type: Literal["mar"] = "mar"

    def convert(self, checkpoint: Checkpoint) -> Imported:
        from vpolicy_uva.importing.pretrained import convert_mar

        return convert_mar(checkpoint)


class KlF16Importer(ImporterComponent):
    """MAR's autoencoder kl-f16 as a folder of diffusers' ``AutoencoderKL``.

    Reads ``kl16.ckpt``. A recipe names the folder as ``weights`` of `uva-joint`'s ``latent``.

    Args:
        scaling_factor: What latents are multiplied with.
    """

    type: Literal["kl-f16"] = "kl-f16"
    scaling_factor: float = Field(0.2325, gt=0)

    def convert(self, checkpoint: Checkpoint) -> Imported:
        from vpolicy_uva.importing.pretrained import convert_autoencoder

        return convert_autoencoder(checkpoint, self.scaling_factor)
