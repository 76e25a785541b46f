"""What training begins with: MAR's ImageNet weights and its autoencoder, as folders that a recipe names."""

from __future__ import annotations

import importlib.util
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from vpolicy_uva.components import UvaJoint
from vpolicy_uva.importing import KlF16Importer, MarImporter
from vpolicy_uva.importing import names as renaming
from vpolicy_uva.initial import load_initial
from vpolicy_uva.latents import build_latents
from vpolicy_uva.options import Head, KlLatent, Transformer

from videopolicy import Checkpoint, WeightsError
from videopolicy.importing.folder import ensure_complete, write_imported
from videopolicy.testing import ImporterContract, toy_spaces

spec = importlib.util.spec_from_file_location("uva_official_files", Path(__file__).with_name("uva_official_files.py"))
files = sys.modules["uva_official_files"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
official = files.official


def randomised(module: nn.Module) -> Any:
    """No weight at its default, so that none can be mistaken for another."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


class TestCommand:
    def test_mar_and_its_autoencoder_are_folders_that_a_recipe_names(self, vpolicy: Any, tmp_path: Path) -> None:
        sizes = replace(files.TINY, decoder_width=32)
        state = {name: torch.full(shape, 0.5) for name, shape in official.mar(sizes).items()}
        torch.save({"model": {}, "model_ema": state, "args": files.official.Variant(), "epoch": 800}, "mar.pth")
        code, said = vpolicy("import", "mar", "mar.pth", "-o", "mar")
        assert code == 0, said
        for text in (
            "policy.joint.initial_weights: mar",
            "the embedding of ImageNet's classes",
            "not carried: Everything about time",
        ):
            assert text in said
        latents = randomised(build_latents(KlLatent(channels=(32, 32), layers=1, latent_channels=4)))
        own, shapes = latents.vae.state_dict(), official.autoencoder((32, 32), 1, 4)
        ours = renaming.autoencoder_names(shapes)
        vae = {theirs: own[name].view(shapes[theirs]) for theirs, name in ours.items()}
        torch.save({"model": vae | {"loss.logvar": torch.zeros(())}, "epoch": 1}, "kl16.ckpt")
        code, said = vpolicy("import", "kl-f16", "kl16.ckpt", "-o", "vae")
        assert code == 0 and "policy.joint.latent.weights: vae" in said, said
        other = build_latents(KlLatent(weights=str(tmp_path / "vae"), channels=(32, 32), layers=1, latent_channels=4))
        images = torch.rand(2, 3, 16, 16) * 2 - 1
        assert torch.equal(latents.moments(images), other.moments(images))
        from diffusers import AutoencoderKL

        library = AutoencoderKL.from_pretrained(tmp_path / "vae").eval()
        with torch.no_grad():
            moments = library.encode(images).latent_dist.parameters
        torch.testing.assert_close(moments, latents.moments(images), atol=1e-5, rtol=0)
        assert library.config.scaling_factor == 0.2325

    def test_importers_that_lack_something_say_what(self, vpolicy: Any, tmp_path: Path) -> None:
        state = hollow = files.hollow(official.mar(files.TINY))
        torch.save({"model_ema": {n: v for n, v in hollow.items() if "blocks.1.norm1" not in n}}, "mar.pth")
        code, said = vpolicy("import", "mar", "mar.pth", "-o", "out")
        assert code == 2 and "transformer.encoder.1.norm1.bias" in said and "2 keys are missing" in said
        torch.save({"model": state}, "x.ckpt")
        for arguments, text in {
            ("mar", "x.ckpt"): "x.ckpt has no entry 'model_ema'",
            ("kl-f16", "x.ckpt"): "x.ckpt lacks decoder.conv_in.weight",
            ("uva", "x.ckpt"): "x.ckpt has no entry 'state_dicts'; it has model",
            ("uva", "x.ckpt", "weights=averaged"): "Input should be 'ema' or 'model'",
        }.items():
            code, said = vpolicy("import", *arguments, "-o", "out")
            assert code == 2 and text in said, said
        assert not (tmp_path / "out").exists()


class TestInitialWeights:
    def joint(self, width: int = 32) -> nn.Module:
        return UvaJoint(
            image_size=(16, 16),
            text=None,
            latent=KlLatent(channels=(32, 32, 32), layers=1),
            transformer=Transformer(width=width, depth=2, heads=2, decoder_depth=1),
            video=Head(width=24, depth=2),
        ).build(toy_spaces())

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        sizes = replace(files.TINY, decoder_width=32)
        state = {name: torch.full(shape, 0.5) for name, shape in official.mar(sizes).items()}
        checkpoint = Checkpoint(tmp_path / "mar.pth", {"model_ema": state})
        torch.save(checkpoint.content, checkpoint.path)
        imported = MarImporter().convert(checkpoint)
        ensure_complete(imported, "mar.pth")
        write_imported(imported, checkpoint, {}, tmp_path / "mar")
        return tmp_path / "mar"

    def test_take_what_has_the_same_name_and_shape(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        joint = self.joint()
        before = {name: value.clone() for name, value in joint.state_dict().items()}
        with caplog.at_level(logging.INFO):
            load_initial(joint, str(folder))
        taken = {name for name, value in joint.state_dict().items() if not torch.equal(value, before[name])}
        assert taken == {name for name in taken if (joint.state_dict()[name] == 0.5).all()}
        starts = ("views.0.future", "input_norm", "encoder", "decoder_in", "decoder.", "decoder_norm")
        own = [name for name in before if name.startswith(tuple(f"transformer.{start}" for start in starts))]
        assert taken == {*own, *(name for name in before if name.startswith("video_heads.0."))}
        said = caplog.records[-1].getMessage()
        assert f"{len(taken)} of {len(taken) + 1} tensors of {folder} taken; not transformer.no_text" in said

    def test_that_fit_nowhere_are_refused(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"there is no weights\.safetensors in .*nowhere") as refused:
            load_initial(self.joint(), str(tmp_path / "nowhere"))
        assert "vpolicy import mar" in refused.value.hint
        with pytest.raises(WeightsError, match=r"none of the .* tensors"):
            load_initial(nn.Linear(2, 2), str(folder))
        (folder / "weights.safetensors").write_bytes(b"cut short")
        with pytest.raises(WeightsError, match="Initial weights cannot be loaded"):
            load_initial(self.joint(), str(folder))
        with torch.device("meta"):
            self.joint()


class TestMarImporter(ImporterContract):
    @pytest.fixture
    def component(self) -> MarImporter:
        return MarImporter()

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(Path("checkpoint-last.pth"), {"model_ema": files.hollow(official.mar(files.TINY))})

    @pytest.fixture
    def keys(self) -> tuple[str, ...]:
        return ("model_ema",)


class TestKlF16Importer(ImporterContract):
    @pytest.fixture
    def component(self) -> KlF16Importer:
        return KlF16Importer()

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(Path("kl16.ckpt"), {"model": files.hollow(official.autoencoder((32, 32), 1, 4))})

    @pytest.fixture
    def keys(self) -> tuple[str, ...]:
        return ("model",)


def test_what_is_missing_is_said_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"initial_weights: there is no weights\.safetensors in .*mar"):
        UvaJoint(initial_weights=str(tmp_path / "mar")).fetch()
    with pytest.raises(WeightsError, match=r"The autoencoder cannot be loaded: the folder .*kl-f16 does not exist"):
        UvaJoint(latent=KlLatent(weights=str(tmp_path / "kl-f16"))).fetch()
    UvaJoint().fetch()
