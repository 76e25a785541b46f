"""The component `svd`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from videopolicy import BackboneComponent, Component, Spaces, hookimpl
from videopolicy.parts.requirements import missing_cameras
from vpolicy_svd.options import SvdOptions, VaeLatent

if TYPE_CHECKING:
    from vpolicy_svd.backbone import SvdBackbone


class Svd(SvdOptions, BackboneComponent):
    """Stable Video Diffusion with text in place of the image embedding.

    The first frame's latent is repeated over the clip and concatenated to the noisy latents; text tokens
    go into the cross-attention. VPP stage 1 trains exactly this (section 4.1; ``step1_train_svd.py`` and
    ``video_models/pipeline.py``), and the defaults are its official code's. Video Policy trains the same network
    with its views one behind the other in one clip (section 4.1 and appendix A.1; ``configs/stage_1.yaml``); its
    settings are named with the options. EDM preconditioning with unit data deviation, as Stable Video Diffusion has it.

    Options: `vpolicy_svd.options.SvdOptions`.
    """

    type: Literal["svd"] = "svd"

    def picture_size(self) -> tuple[int, int]:
        return self.image_size

    def frame_encoder(self) -> dict[str, Any] | None:
        """None where training changes the frames, or looks at the first one with another encoder."""
        vae = isinstance(self.latent, VaeLatent)
        own = isinstance(self.latent, VaeLatent) and self.latent.condition_encoder == "own"
        if own or self.color_jitter is not None or self.image_noise or not self.stride:
            return None
        latent = self.latent.model_dump(mode="json", exclude={"decode_frames", "condition_encoder", "precision"})
        return {"latent": latent, "weights": self.weights if vae else None, "image_size": self.image_size}

    def check(self, spaces: Spaces) -> list[str]:
        return missing_cameras("the video model", spaces)

    def fetch(self) -> None:
        if self.weights is not None:
            from vpolicy_svd.loading import ensure_as_trained, files_of, pretrained_folder

            unet = ["unet"] if self.unet_start == "weights" else []
            vae = ["vae"] if isinstance(self.latent, VaeLatent) else []
            files = [file for part in (*unet, *vae) for file in files_of(part)]
            folder = pretrained_folder(self.weights, "Stable Video Diffusion", files)
            if unet:
                ensure_as_trained(folder, self.as_trained)

    def build(self, spaces: Spaces) -> SvdBackbone:
        from vpolicy_svd.backbone import SvdBackbone

        return SvdBackbone(self, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Svd]
