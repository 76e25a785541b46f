"""Published weights: what is read of files in their authors' layouts, and what is said of files of something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from encoder_files import distilbert, masked_autoencoder, randomised, v_cond, v_cond_tokens, vit
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor
from vpolicy_encoders.components import DistilBertText, ImageEncoder
from vpolicy_encoders.images import IMAGENET_DEVIATION, IMAGENET_MEAN, seen
from vpolicy_encoders.options import Autoencoder, Timm, Voltron
from vpolicy_encoders.voltron import positions

from videopolicy import Observation, RecipeError, WeightsError
from videopolicy.components.text import WordText
from videopolicy.testing import toy_observation, toy_spaces
from videopolicy.types import Window

SPACES = toy_spaces()
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
SENTENCES = ["open the red drawer", "push the green button"]


def vc1(weights: Path, **options: Any) -> ImageEncoder:
    chosen = {"arguments": SMALL, "dim": 32, "stride": 8, "image_size": (32, 32)} | options
    return ImageEncoder(encoder=Timm(weights=str(weights), **chosen))


def tokens(component: ImageEncoder, observation: Observation) -> Tensor:
    with torch.no_grad():
        (branch,) = component.build(SPACES).stream(observation).at(torch.ones(len(observation)))
    return branch.tokens


@pytest.fixture(scope="module")
def observation() -> Observation:
    found = toy_observation(SPACES, Window())
    found.instructions = list(SENTENCES)
    return found


def scaled(observation: Observation) -> Tensor:
    """Views of 32 x 32 pixels behind each other, row by row, as ImageNet's are scaled."""
    pixels = torch.stack([images[:, -1] for images in observation.images.values()], dim=1).flatten(0, 1).float() / 255
    mean, deviation = (torch.tensor(one)[:, None, None] for one in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (pixels - mean) / deviation


class TestVc1:
    def test_tokens_are_those_of_the_authors_network(self, tmp_path: Path, observation: Observation) -> None:
        model = vit()
        file = masked_autoencoder(tmp_path / "vc1_vitb.pth", model)
        # vit.py of eai-vc: patches and positions, the class token in front, blocks, norm; then without the class token.
        with torch.no_grad():
            patches = model.patch_embed(scaled(observation)) + model.pos_embed[:, 1:]
            first = (model.cls_token + model.pos_embed[:, :1]).expand(len(patches), -1, -1)
            expected = model.norm(model.blocks(torch.cat([first, patches], dim=1)))[:, 1:]
        found = tokens(vc1(file), observation)
        assert found.shape == (2, 2 * 16, 32)
        assert torch.allclose(found, expected.reshape(2, 32, 32), atol=1e-5)

    def test_a_folder_in_the_hubs_layout_is_as_good(self, tmp_path: Path, observation: Observation) -> None:
        masked_autoencoder(tmp_path / "pytorch_model.bin", vit())
        component = vc1(tmp_path)
        component.fetch()
        expected = tokens(component, observation)
        save_file(vit().state_dict(), tmp_path / "model.safetensors")  # timm's own is preferred
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        assert torch.equal(tokens(component, observation), expected)

    def test_images_are_resized_and_the_middle_is_cut_out(self) -> None:
        images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        images[..., 8:56, 8:56] = 255  # three quarters along a side: 24 of 32
        options = Timm(image_size=(24, 24), resize=(32, 32), interpolation="bicubic")
        pixels = seen(images, options, IMAGENET_MEAN, IMAGENET_DEVIATION)
        assert pixels.shape == (1, 3, 24, 24)
        white = [(1 - mean) / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)]
        assert torch.allclose(pixels[0, :, 12, 12], torch.tensor(white))
        assert (pixels[..., 3:-3, 3:-3] > 2).all() and (seen(images, Timm(), (0,) * 3, (1,) * 3)[..., 0, 0] == 0).all()

    def test_other_sizes_of_images_are_an_error_or_interpolated(self, tmp_path: Path, observation: Observation) -> None:
        model = vit(size=48)
        file = masked_autoencoder(tmp_path / "vc1.pth", model)
        with pytest.raises(WeightsError, match=r"images of another size: pos_embed .* \[1, 37, 32\] there") as caught:
            vc1(file).build(SPACES)
        assert "[1, 17, 32] in timm's vit_base" in caught.value.message
        assert "positions: interpolate" in caught.value.hint
        extractor = vc1(file, positions="interpolate").build(SPACES)
        resized = resample_abs_pos_embed(model.pos_embed.detach(), [4, 4], num_prefix_tokens=1)
        assert torch.allclose(extractor.encoder.model.pos_embed, resized, atol=1e-6)

    @pytest.mark.parametrize(
        ("theirs", "told"),
        [
            ({"patch_size": 16}, "are for patches of 16 x 16 pixels, and timm's vit_base_patch16_224.mae has 8 x 8"),
            ({"embed_dim": 48}, r"are not those of timm's vit_base.*: cls_token has the shape \[1, 1, 48\] there and"),
            ({"depth": 3}, r"Unexpected key\(s\) in state_dict: \"blocks.2"),
            ({"depth": 1}, r"Missing key\(s\) in state_dict: \"blocks.1"),
        ],
    )
    def test_another_network_is_named(self, tmp_path: Path, theirs: dict[str, int], told: str) -> None:
        file = masked_autoencoder(tmp_path / "other.pth", vit(**theirs))
        with pytest.raises(WeightsError, match=told):
            vc1(file, positions="interpolate").build(SPACES)

    def test_files_that_are_not_there_or_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"there is no file weights/vc1_vitb\.pth"):
            vc1(Path("weights/vc1_vitb.pth")).fetch()
        with pytest.raises(WeightsError, match=r"has neither model\.safetensors nor pytorch_model\.bin; there is none"):
            vc1(tmp_path).fetch()
        torch.save(({"encoder_pe": torch.zeros(1)}, {}), tmp_path / "v-cond.pt")
        with pytest.raises(WeightsError, match="holds no weights"):
            vc1(tmp_path / "v-cond.pt").build(SPACES)

    def test_what_timm_does_not_know(self) -> None:
        def build(**options: Any) -> None:
            ImageEncoder(encoder=Timm(**options)).build(SPACES)

        with pytest.raises(RecipeError, match="timm has no model 'vit_base_patch61_224'") as caught:
            build(model="vit_base_patch61_224")
        assert "Did you mean 'vit_base_patch" in caught.value.hint
        with pytest.raises(RecipeError, match=r"timm has no weights 'vit_base_patch16_224\.map'") as caught:
            build(model="vit_base_patch16_224.map")
        assert "vit_base_patch16_224.mae" in caught.value.hint
        with pytest.raises(RecipeError, match="tokens of width 32, one for 8 pixels; the recipe says 768 and 16"):
            build(arguments=SMALL)
        with pytest.raises(RecipeError, match="timm cannot make test_resnet with arguments"):
            build(model="test_resnet", arguments={"no_such": 1})
        with pytest.raises(ValidationError, match="arguments cannot say num_classes"):
            Timm(arguments={"num_classes": 3})


class TestVoltron:
    @pytest.fixture
    def language(self, distilbert_folder: Path) -> dict[str, Tensor]:
        whole = load_file(distilbert_folder / "model.safetensors")
        return {name.removeprefix("distilbert."): one for name, one in whole.items() if name.startswith("distilbert.")}

    @pytest.fixture
    def voltron(self, distilbert_folder: Path, tmp_path: Path) -> Any:
        def voltron(**options: Any) -> ImageEncoder:
            sizes = {"patch": 8, "width": 32, "depth": 2, "heads": 4, "image_size": (32, 32)} | options
            text = DistilBertText(weights=str(distilbert_folder), max_length=8, width=32)
            return ImageEncoder(encoder=Voltron(weights=str(tmp_path / "v-cond.pt"), **sizes), text=text)

        return voltron

    @staticmethod
    def save(folder: Path, state: dict[str, Tensor]) -> None:
        torch.save((state, {"state": {}, "param_groups": [{"lr": 1e-4}]}), folder / "v-cond.pt")

    def test_tokens_are_those_of_the_authors_network(
        self, tmp_path: Path, voltron: Any, language: dict[str, Tensor], observation: Observation
    ) -> None:
        state = v_cond(language)
        self.save(tmp_path, state)
        component = voltron()
        component.fetch()
        text = component.text.build()(SENTENCES)
        assert text.mask.tolist() == [[True] * 7 + [False], [True] * 6 + [False] * 2]  # "drawer" is two pieces
        words, mask = (one.repeat_interleave(2, dim=0) for one in (text.tokens, text.mask))
        expected = v_cond_tokens(state, scaled(observation), words, mask, heads=4)
        found = tokens(component, observation)
        assert found.shape == (2, 2 * (16 + 8), 32)
        assert torch.allclose(found, expected.reshape(2, 48, 32), atol=1e-4)
        visual = tokens(voltron(tokens="visual"), observation)
        assert torch.allclose(visual, expected[:, :16].reshape(2, 32, 32), atol=1e-4)

    def test_the_sentence_changes_the_patches(
        self, tmp_path: Path, voltron: Any, language: dict[str, Tensor], observation: Observation
    ) -> None:
        self.save(tmp_path, v_cond(language))
        extractor = voltron(tokens="visual").build(SPACES)
        one, other = (
            extractor.frozen_features(Observation(observation.images, [sentence] * 2), None) for sentence in SENTENCES
        )
        assert (one - other).abs().max() > 1e-3

    def test_fixed_positions_are_those_of_masked_autoencoders(self) -> None:
        found = positions(8, 3, class_token=True)[0]
        assert found.shape == (10, 8) and (found[0] == 0).all()
        column, row = torch.tensor(2.0), torch.tensor(1.0)  # of patch 5
        expected = [
            trigonometric(place * frequency)
            for place in (column, row)
            for trigonometric in (torch.sin, torch.cos)
            for frequency in (1.0, 0.01)
        ]
        assert torch.allclose(found[1 + 5], torch.stack(expected), atol=1e-6)

    def test_other_sizes_of_images_are_an_error_or_interpolated(
        self, tmp_path: Path, voltron: Any, language: dict[str, Tensor]
    ) -> None:
        state = v_cond(language, side=6)
        self.save(tmp_path, state)
        with pytest.raises(WeightsError, match=r"encoder_pe has the shape \[1, 36, 32\] there and \[1, 16, 32\]"):
            voltron().build(SPACES)
        extractor = voltron(positions="interpolate").build(SPACES)
        resized = resample_abs_pos_embed(state["encoder_pe"], [4, 4], num_prefix_tokens=0)
        assert torch.allclose(extractor.encoder.encoder_pe, resized)

    def test_other_networks_and_files_are_named(
        self, tmp_path: Path, voltron: Any, language: dict[str, Tensor]
    ) -> None:
        with pytest.raises(WeightsError, match="there is no file") as caught:
            voltron().fetch()
        assert "voltron.load" in caught.value.hint
        state = v_cond(language)
        for other, told in (
            (v_cond(language, width=48), r"not those of Voltron: .* 48\] there"),
            (v_cond(language, patch=16), "patches of 16 x 16 pixels, and Voltron has 8 x 8"),
            (v_cond(language, depth=3), "12 are unexpected .encoder_blocks.2"),
            ({**state, "ctx_enc_pe": torch.zeros(1, 2, 1, 32)}, "1 are unexpected .ctx_enc_pe"),  # of V-Dual
            ({name: one for name, one in state.items() if name != "lang_token"}, "1 keys are missing .lang_token"),
        ):
            self.save(tmp_path, other)
            with pytest.raises(WeightsError, match=told):
                voltron().build(SPACES)
        torch.save({"model": state}, tmp_path / "v-cond.pt")
        with pytest.raises(WeightsError, match="is no file of Voltron"):
            voltron().build(SPACES)

    def test_the_description_beside_the_weights_says_how_many_heads(
        self, tmp_path: Path, voltron: Any, language: dict[str, Tensor]
    ) -> None:
        self.save(tmp_path, v_cond(language))
        description = tmp_path / "v-cond-config.json"
        description.write_text(json.dumps({"encoder_n_heads": 2, "resolution": 32}))
        with pytest.raises(WeightsError, match="has 2 attention heads, the recipe 4"):
            voltron().build(SPACES)
        voltron(heads=2).build(SPACES)
        description.write_text("[")
        with pytest.raises(WeightsError, match=r"v-cond-config\.json cannot be read"):
            voltron().build(SPACES)

    def test_the_language_model_must_be_the_same(
        self, tmp_path: Path, voltron: Any, distilbert_folder: Path, language: dict[str, Tensor]
    ) -> None:
        self.save(tmp_path, v_cond(language))
        other = distilbert(tmp_path / "other", seed=1)
        component = voltron().model_copy(update={"text": DistilBertText(weights=str(other), max_length=8, width=32)})
        with pytest.raises(WeightsError, match="was trained with another DistilBERT than `text` has loaded"):
            component.build(SPACES)
        with pytest.raises(WeightsError, match=r"DistilBERT in .* has the width 32, the recipe says 48"):
            DistilBertText(weights=str(distilbert_folder), width=48).build()

    def test_what_reads_the_instruction_is_checked_with_the_recipe(self) -> None:
        with pytest.raises(ValidationError, match="encoder voltron is conditioned on language; add text"):
            ImageEncoder(encoder=Voltron())
        with pytest.raises(ValidationError, match="encoder timm reads no text"):
            ImageEncoder(text=WordText())
        with pytest.raises(ValidationError, match="go with text of type distilbert-text, not word-text"):
            ImageEncoder(encoder=Voltron(weights="v-cond.pt"), text=WordText())
        with pytest.raises(ValidationError, match="must be square and a multiple of patch 16"):
            Voltron(image_size=(224, 240))


class TestAutoencoder:
    SIZES: ClassVar = {"block_out_channels": (32, 64), "layers_per_block": 1, "latent_channels": 4}
    OURS: ClassVar = {"channels": (32, 64), "layers": 1, "image_size": (32, 32)}

    def saved(self, folder: Path, temporal: bool = False, **changed: Any) -> Any:
        from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

        down = {"down_block_types": ("DownEncoderBlock2D",) * 2}
        if temporal:
            model = AutoencoderKLTemporalDecoder(**down, **self.SIZES, **changed)
        else:
            model = AutoencoderKL(**down, up_block_types=("UpDecoderBlock2D",) * 2, **self.SIZES, **changed)
        randomised(model).save_pretrained(folder)
        return model

    @pytest.mark.parametrize("temporal", [False, True])
    def test_tokens_are_scaled_latents(self, tmp_path: Path, observation: Observation, temporal: bool) -> None:
        model = self.saved(tmp_path / "vae", temporal)
        component = ImageEncoder(encoder=Autoencoder(weights=str(tmp_path), **self.OURS))
        component.fetch()
        images = torch.stack([one[:, -1] for one in observation.images.values()], dim=1).flatten(0, 1)
        with torch.no_grad():
            latents = model.encode(images.float() / 127.5 - 1).latent_dist.mode() * 0.18215
        expected = latents.flatten(2).transpose(1, 2).reshape(2, 2 * 256, 4)
        assert torch.allclose(tokens(component, observation), expected, atol=1e-5)

    def test_older_names_of_attention_are_read(self, tmp_path: Path, observation: Observation) -> None:
        self.saved(tmp_path)
        component = ImageEncoder(encoder=Autoencoder(weights=str(tmp_path), subfolder="", **self.OURS))
        expected = tokens(component, observation)
        file = tmp_path / "diffusion_pytorch_model.safetensors"
        renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = load_file(file)
        for newer, older in renamed.items():
            state = {name.replace(f".{newer}.", f".{older}."): value for name, value in state.items()}
        assert any(".proj_attn." in name for name in state)
        save_file(state, file)
        assert torch.equal(tokens(component, observation), expected)

    def test_another_autoencoder_is_named(self, tmp_path: Path) -> None:
        self.saved(tmp_path / "vae", scaling_factor=0.13025)

        def build(**changed: Any) -> None:
            options = {"weights": str(tmp_path), **self.OURS} | changed
            ImageEncoder(encoder=Autoencoder(**options)).build(SPACES)

        with pytest.raises(WeightsError, match=r"scales latents by 0\.13025, the recipe by 0\.18215") as caught:
            build()
        assert "scaling_factor: 0.13025" in caught.value.hint
        build(scaling_factor=0.13025)
        with pytest.raises(WeightsError, match=r"do not match the model: \d+ keys are missing .encoder.down_blocks"):
            build(layers=2)
        with pytest.raises(WeightsError, match=r"size mismatch for encoder\.conv_in"):
            build(channels=(64, 128), scaling_factor=0.13025)
        with pytest.raises(WeightsError, match="The autoencoder cannot be loaded") as caught:
            build(subfolder="autoencoder")
        assert "autoencoder/config.json" in caught.value.hint
        with pytest.raises(ValidationError, match="must be multiples of 8"):
            Autoencoder(image_size=(100, 100))
