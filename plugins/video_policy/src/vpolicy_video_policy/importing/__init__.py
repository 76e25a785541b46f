"""The importers `video-policy` and `openclip-text`: published weights for ``vpolicy import``."""

from __future__ import annotations

from typing import Literal

from videopolicy import Checkpoint, Imported, ImporterComponent


class VideoPolicyImporter(ImporterComponent):
    """Video Policy's checkpoints of both stages and of joint training, and the Stable Video Diffusion they begin with.

    Reads ``stage_1_trained_step_369k.ckpt`` and ``svd_xt.safetensors`` as weights of a video model, and
    ``stage_2_trained_step_369k.ckpt`` as those of a whole policy: an `every-step` extractor on `svd`, with an
    `action-unet` decoder.

    Args:
        tolerance: Largest difference between the two autoencoders' encoders that counts as none; they then become one.
    """

    type: Literal["video-policy"] = "video-policy"
    tolerance: float = 1e-6

    def convert(self, checkpoint: Checkpoint) -> Imported:
        from vpolicy_video_policy.importing.checkpoints import convert

        return convert(checkpoint, self.tolerance)


class OpenClipTextImporter(ImporterComponent):
    """OpenCLIP's text tower as a folder that `clip-text` reads.

    Reads ``open_clip_pytorch_model.bin``, or a checkpoint of Video Policy, which has the tower inside.

    Args:
        heads: Attention heads; None for one per 64 channels, as all of OpenCLIP's own sizes have.
        activation: OpenCLIP's models have ``gelu``, OpenAI's and those trained like them ``quick_gelu``.
    """

    type: Literal["openclip-text"] = "openclip-text"
    heads: int | None = None
    activation: Literal["gelu", "quick_gelu"] = "gelu"

    def convert(self, checkpoint: Checkpoint) -> Imported:
        from vpolicy_video_policy.importing.text import convert

        return convert(checkpoint, self.heads, self.activation)
