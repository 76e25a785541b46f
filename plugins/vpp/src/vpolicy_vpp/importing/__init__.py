"""The importer `vpp`: published weights for ``vpolicy import``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from videopolicy import Checkpoint, Imported, ImporterComponent


class VppImporter(ImporterComponent):
    """Video Prediction Policy's action models, and the video models that they read.

    An action model, such as ``dp-calvin`` (its folder, or the ``.pt`` file in ``saved_models``), becomes a whole
    policy: `one-step` features of `svd` under a `dit-diffusion` decoder. A folder of Stable Video Diffusion's pipeline,
    such as ``svd-robot`` and ``svd-robot-calvin-ft``, becomes one that `svd` reads as its ``weights``.

    Args:
        position_encode: Whether positions were added to the text tokens that the video model was trained with. No file
            shows it, and the released ones differ: true for ``svd-robot``, false for ``svd-robot-calvin-ft``. It must
            be given for a video model. None for an action model: as the official configuration of its class has it.
        taps: Feature maps that an action model reads; None: those of the official configurations with as many
            channels.
        former_heads: Attention heads of the Video Former, which no shape shows; None: one per 64 channels, as in all
            official configurations.
    """

    type: Literal["vpp"] = "vpp"
    position_encode: bool | None = None
    taps: tuple[str, ...] | None = Field(None, min_length=1)
    former_heads: int | None = Field(None, ge=1)

    def files(self, folder: Path) -> Path | dict[str, Path]:
        from vpolicy_vpp.importing.pipelines import ensure_positions_given, files, is_pipeline
        from vpolicy_vpp.importing.policies import file_in

        if is_pipeline(folder):
            ensure_positions_given(folder, self.position_encode)
            return files(folder)
        return file_in(folder)

    def convert(self, checkpoint: Checkpoint) -> Imported:
        if checkpoint.path.is_dir():
            from vpolicy_vpp.importing.pipelines import convert as convert_pipeline

            return convert_pipeline(checkpoint, self.position_encode)
        from vpolicy_vpp.importing.policies import convert

        return convert(checkpoint, self.position_encode, self.taps, self.former_heads)
