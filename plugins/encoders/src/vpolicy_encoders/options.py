"""Options of `image-encoder`: the encoders, what they see of an image, and where their weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import AnyText, FeatureLayout, Spaces, WeightsError, Window, listing
from videopolicy.parts.files import expanded
from videopolicy.parts.options import Options
from videopolicy.parts.weights import pretrained_folder

Positive = Annotated[int, Field(ge=1)]
Size = tuple[Positive, Positive]
"""Height and width in pixels."""
Axes = tuple[tuple[str, int], ...]
"""Names and sizes of the axes of a view's tokens, as `FeatureLayout` has them."""
Positions = Literal["exact", "interpolate"]
"""What is done with position embeddings for images of another size."""

DISTILBERT = "DistilBERT"
DISTILBERT_FILES = ("config.json", "model*.safetensors", "pytorch_model.bin", "tokenizer*.json", "vocab.txt")
VOLTRON = "Voltron"
AUTOENCODER = "The autoencoder"
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
"""What a hub folder keeps a timm network in: timm's own, and VC-1's (``facebook/vc1-base``)."""

_SUFFIXES = {".bin", ".ckpt", ".pt", ".pth", ".safetensors"}
_TIMM_OURS = {"features_only", "global_pool", "img_size", "in_chans", "num_classes"}


class Encoder(Options):
    """What all encoders have: what they see of an image.

    Args:
        weights: Of its authors; None: random ones.
        image_size: Height and width that the encoder sees, in pixels.
        resize: Height and width that images are brought to first; the middle of that is cut out. The official codes
            bring the shorter side to this length and so keep the aspect ratio, which for square images is the same.
            None: images are brought to ``image_size``, and nothing is cut off.
        interpolation: Of the resizing, always with antialiasing.
    """

    weights: str | None = None
    image_size: Size = (224, 224)
    resize: Size | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _cut_out(self) -> Encoder:
        if self.resize and any(cut > whole for cut, whole in zip(self.image_size, self.resize, strict=True)):
            raise ValueError(f"image_size {list(self.image_size)} exceeds the images of resize {list(self.resize)}")
        return self

    def width_of_tokens(self) -> int:
        """D."""
        raise NotImplementedError

    def axes(self, words: int) -> Axes:
        """How the tokens of a view unfold.

        Args:
            words: Tokens of a sentence, 0 where there is no text.
        """
        raise NotImplementedError

    def fetch(self) -> None:
        """Make sure that the weights are here.

        Raises:
            WeightsError: They cannot be had.
        """
        raise NotImplementedError


class Timm(Encoder):
    """Any network of timm, and VC-1: the tokens behind its last layer, without class and register tokens.

    Pixels are scaled by the mean and deviation that timm has with the model's name.

    VC-1 (Majumdar et al. 2023; github.com/facebookresearch/eai-vc) is a masked autoencoder's ViT-B or ViT-L with
    patches of 16 pixels and computes what timm's network of this name does: ``model: vit_base_patch16_224.mae, weights:
    facebook/vc1-base, resize: [256, 256], interpolation: bicubic``; for the larger one ``vit_large_patch16_224.mae``,
    ``facebook/vc1-large``, ``dim: 1024``. The official code gives the class token by default and the patches' tokens on
    request; 256 tokens are resampled from the latter.

    Args:
        model: Its name in timm, with the tag of the weights, which says how pixels are scaled.
        weights: Hub id or folder with ``model.safetensors`` or ``pytorch_model.bin``, or a local file such as
            ``vc1_vitb.pth``. Of a masked autoencoder's file the decoder is left out, of a classifier's the head.
        arguments: Further arguments of ``timm.create_model``, such as ``drop_path_rate``, or ``depth`` for a small one.
        dim: Width of its tokens, so that a recipe can be checked without it. Building verifies it.
        stride: Pixels for one token, likewise: the patch of a vision transformer, 32 for most convolutional networks.
        positions: Where the weights were trained on images of another size: ``exact`` ends with an error,
            ``interpolate`` resizes position embeddings as timm does (VC-1's code always does).
    """

    type: Literal["timm"] = "timm"
    model: str = "vit_base_patch16_224.mae"
    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    dim: int = Field(768, ge=1)
    stride: int = Field(16, ge=1)
    positions: Positions = "exact"

    @model_validator(mode="after")
    def _free_arguments(self) -> Timm:
        taken = sorted(name for name in self.arguments if name in _TIMM_OURS or name.startswith("pretrained"))
        if taken:
            raise ValueError(f"arguments cannot say {', '.join(taken)}: `image-encoder` sets it itself")
        return self

    def width_of_tokens(self) -> int:
        return self.dim

    def axes(self, words: int) -> Axes:
        height, width = (-(-side // self.stride) for side in self.image_size)
        return ("height", height), ("width", width)

    def file(self) -> Path | None:
        """The file with the weights, fetched where necessary; None for random ones."""
        return None if self.weights is None else weights_file(self.weights, f"timm's {self.model}", TIMM_FILES)

    def fetch(self) -> None:
        self.file()


class Voltron(Encoder):
    """Voltron's V-Cond (Karamcheti et al. 2023): patches and words in one transformer.

    ``models/core/vcond.py`` of github.com/siddk/voltron-robotics. A masked autoencoder conditioned on language, trained
    on single frames. Its ``text`` is `distilbert-text`, whose tokens stand behind the patches. The defaults are V-Cond
    (small); the base model has ``width: 768, heads: 12``. V-Dual and V-Gen, which see two frames, are other networks.

    Args:
        weights: The authors' file, such as ``v-cond.pt``, local: it is not on the hub. The reconstructing half is left
            out, DistilBERT is compared with the one that ``text`` has loaded.
        patch: Side of a patch in pixels.
        width, depth, heads: Of the encoder.
        class_token: Whether a class token stands in front of the patches; the published models have none.
        tokens: ``multimodal`` gives those of patches and words, as the official code does by default; ``visual`` those
            of the patches, which have seen the words.
        positions: ``exact`` or ``interpolate``, as for `Timm`; the official code has no interpolation.
    """

    type: Literal["voltron"] = "voltron"
    patch: int = Field(16, ge=1)
    width: int = Field(384, ge=4)
    depth: int = Field(12, ge=1)
    heads: int = Field(6, ge=1)
    class_token: bool = False
    tokens: Literal["multimodal", "visual"] = "multimodal"
    positions: Positions = "exact"

    @model_validator(mode="after")
    def _fits(self) -> Voltron:
        if self.image_size[0] != self.image_size[1] or self.image_size[0] % self.patch:
            raise ValueError(f"image_size {list(self.image_size)} must be square and a multiple of patch {self.patch}")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads} and of 4")
        return self

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size[0] // self.patch

    def width_of_tokens(self) -> int:
        return self.width

    def axes(self, words: int) -> Axes:
        if self.tokens == "visual":
            return ("height", self.grid), ("width", self.grid)
        return (("tokens", self.class_token + self.grid**2 + words),)

    def fetch(self) -> None:
        if self.weights is not None and not expanded(self.weights).is_file():
            raise WeightsError(
                f"{VOLTRON} cannot be loaded: there is no file {self.weights}.",
                "The authors' `voltron.load('v-cond')` downloads cache/v-cond/v-cond.pt; copy it here and name it.",
            )


class Autoencoder(Encoder):
    """The latents of an image autoencoder of diffusers, a token for each place ("Stable-VAE" of VPP's Table 3).

    The mode of the posterior, scaled; pixels in [-1, 1]. The decoder is left out, so that ``AutoencoderKL`` and Stable
    Video Diffusion's ``AutoencoderKLTemporalDecoder`` are one. The defaults are the latter's.

    Args:
        weights: Hub id or local folder of a pipeline, or of an autoencoder.
        subfolder: Where it lies in that; empty for the folder itself.
        channels: Widths of its levels, multiples of 32; each level but the last halves the image.
        layers: Residual layers of each level.
        latent_channels: D.
        scaling_factor: What latents are multiplied with; must be that of the weights.
    """

    type: Literal["autoencoder"] = "autoencoder"
    image_size: Size = (256, 256)
    subfolder: str = "vae"
    channels: tuple[Positive, ...] = Field((128, 256, 512, 512), min_length=1)
    layers: int = Field(2, ge=1)
    latent_channels: int = Field(4, ge=1)
    scaling_factor: float = 0.18215

    @model_validator(mode="after")
    def _fits(self) -> Autoencoder:
        if any(width % 32 for width in self.channels):
            raise ValueError(f"channels {list(self.channels)} must be multiples of 32")
        if any(side % self.patch for side in self.image_size):
            raise ValueError(f"image_size {list(self.image_size)} must be multiples of {self.patch}")
        return self

    @property
    def patch(self) -> int:
        """Pixels for one place of the latent."""
        return 2 ** (len(self.channels) - 1)

    @property
    def files(self) -> tuple[str, str]:
        """Description and weights, relative to the folder."""
        place = f"{self.subfolder}/" if self.subfolder else ""
        return f"{place}config.json", f"{place}diffusion_pytorch_model.safetensors"

    def width_of_tokens(self) -> int:
        return self.latent_channels

    def axes(self, words: int) -> Axes:
        return ("height", self.image_size[0] // self.patch), ("width", self.image_size[1] // self.patch)

    def fetch(self) -> None:
        if self.weights is not None:
            pretrained_folder(self.weights, AUTOENCODER, self.files)


class ImageEncoderOptions(Options):
    """Options of `image-encoder`.

    Args:
        encoder: The network; one for all cameras.
        text: What reads the instruction for an encoder that is conditioned on it (`Voltron`); None for the others.
        frozen: Whether encoder and text stay as they are, in evaluation mode: their tokens can then be cached.
            Otherwise they are trained with the policy. VPP's authors first fine-tuned VC-1 and Voltron on their videos
            by the losses that these were pretrained with, and published no code for that.
    """

    encoder: Annotated[Timm | Voltron | Autoencoder, Field(discriminator="type")] = Timm()
    text: AnyText | None = None
    frozen: bool = True

    @model_validator(mode="after")
    def _reads_text(self) -> ImageEncoderOptions:
        conditioned = isinstance(self.encoder, Voltron)
        if conditioned and self.text is None:
            raise ValueError("encoder voltron is conditioned on language; add text, such as {type: distilbert-text}")
        if self.text is not None and not conditioned:
            raise ValueError(f"encoder {self.encoder.type} reads no text; leave text out, the decoder reads it")
        published = conditioned and self.encoder.weights is not None
        if published and self.text is not None and self.text.type != "distilbert-text":
            raise ValueError(f"the weights of voltron go with text of type distilbert-text, not {self.text.type}")
        return self

    def window(self) -> Window:
        return Window()

    def layout(self, spaces: Spaces) -> FeatureLayout:
        words = 0 if self.text is None else self.text.length
        axes = (("views", len(spaces.cameras)), *self.encoder.axes(words))
        return FeatureLayout(self.encoder.width_of_tokens(), axes)


def weights_file(weights: str, what: str, names: tuple[str, ...]) -> Path:
    """The file that an option names: itself, or the first of these names in a folder, fetched where necessary.

    Args:
        weights: Local file, local folder, or hub id.
        what: What is being loaded, as the first words of a message.
        names: Of the files, the preferred one first.

    Raises:
        WeightsError: There is none.
    """
    path = expanded(weights)
    if path.suffix in _SUFFIXES and not path.is_dir():
        if path.is_file():
            return path
        raise WeightsError(f"{what} cannot be loaded: there is no file {weights}.", "Put it there, or correct weights.")
    folder = pretrained_folder(weights, what, names)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    there = listing(sorted(one.name for one in folder.iterdir()))
    raise WeightsError(
        f"{what} cannot be loaded: {weights} has neither {' nor '.join(names)}; there is {there}.",
        "Name the file itself, or a folder with one of these.",
    )
