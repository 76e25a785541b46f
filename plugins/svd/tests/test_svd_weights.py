"""Pretrained weights of the video model, in the layout of the hub's pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from small_video_model import SPACES, TINY_VAE, build, small
from vpolicy_svd.options import UNet
from vpolicy_svd.unet import build_unet

from videopolicy import WeightsError


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline in the layout of the hub's: subfolders ``unet`` and ``vae``."""
    folder = tmp_path_factory.mktemp("pipeline")
    backbone = build(latent=TINY_VAE)
    backbone.unet.save_pretrained(folder / "unet")
    backbone.latent.vae.save_pretrained(folder / "vae")
    return folder


def test_weights_are_loaded_from_a_pipeline_folder(pipeline_folder: Path) -> None:
    first = build(latent=TINY_VAE)
    torch.manual_seed(1)
    loaded = small(latent=TINY_VAE, weights=str(pipeline_folder)).build(SPACES)
    for name, value in first.unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[name], value), name
    for name, value in first.latent.state_dict().items():
        assert torch.equal(loaded.latent.state_dict()[name], value), name
    assert not any(parameter.requires_grad for parameter in loaded.latent.parameters())


def test_nothing_is_drawn_where_weights_follow_and_half_of_them_become_whole(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    halves = tmp_path / "halves"
    for part in ("unet", "vae"):
        (halves / part).mkdir(parents=True)
        shutil.copy(pipeline_folder / part / "config.json", halves / part)
        state = load_file(pipeline_folder / part / "diffusion_pytorch_model.safetensors")
        save_file(
            {name: value.half() for name, value in state.items()}, halves / part / "diffusion_pytorch_model.safetensors"
        )
    options = small(latent=TINY_VAE, weights=str(halves))
    before = torch.get_rng_state()
    unet = build_unet(options)
    assert torch.equal(torch.get_rng_state(), before)
    whole = load_file(pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors")
    for name, value in [*unet.named_parameters(), *unet.named_buffers()]:
        assert value.device.type == "cpu" and value.dtype == torch.float32 and value.requires_grad, name
        assert torch.equal(value, whole[name].half().float()), name


def test_weights_of_another_architecture_are_refused_with_both_lists(pipeline_folder: Path) -> None:
    unet = UNet(channels=(32, 32), heads=(2, 2), attention=(True, False), layers=1, time_ids_width=8)
    with pytest.raises(WeightsError, match=r"do not match the model: \d+ keys are missing \(down_blocks.0") as caught:
        small(latent=TINY_VAE, weights=str(pipeline_folder), unet=unet).build(SPACES)
    assert "down_blocks.1.attentions.0" in caught.value.message
    wider = UNet(channels=(64, 64), heads=(2, 2), attention=(False, True), layers=1, time_ids_width=8)
    with pytest.raises(WeightsError, match=r"The UNet cannot be loaded from .* size mismatch for"):
        small(latent=TINY_VAE, weights=str(pipeline_folder), unet=wider).build(SPACES)


def test_what_no_weights_shape_tells_is_compared_too(pipeline_folder: Path) -> None:
    unet = UNet(channels=(32, 32), heads=(4, 4), attention=(False, True), layers=1, time_ids_width=8)
    with pytest.raises(WeightsError, match=r"num_attention_heads is \[2, 2\] there and \[4, 4\] in the recipe"):
        small(latent=TINY_VAE, weights=str(pipeline_folder), unet=unet).build(SPACES)
    vae = TINY_VAE.model_copy(update={"scaling_factor": 0.5})
    with pytest.raises(WeightsError, match=r"scaling_factor is 0.18215 there and 0.5 in the recipe"):
        small(latent=vae, weights=str(pipeline_folder)).build(SPACES)


def test_a_folder_without_the_files_says_which_it_needs(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="The autoencoder cannot be loaded") as caught:
        small(latent=TINY_VAE, weights=str(tmp_path)).build(SPACES)
    assert "vae/diffusion_pytorch_model.safetensors" in caught.value.hint
    with pytest.raises(WeightsError, match="does not exist"):
        small(weights=str(tmp_path / "nowhere")).build(SPACES)


def test_the_unet_may_start_anew_while_the_autoencoder_is_pretrained(pipeline_folder: Path, tmp_path: Path) -> None:
    first = build(latent=TINY_VAE)
    vae_alone = shutil.copytree(pipeline_folder / "vae", tmp_path / "pipeline" / "vae").parent
    options = small(latent=TINY_VAE, weights=str(vae_alone), unet_start="random")
    options.fetch()
    torch.manual_seed(1)
    loaded = options.build(SPACES)
    for name, value in first.latent.state_dict().items():
        assert torch.equal(loaded.latent.state_dict()[name], value), name
    assert not torch.equal(loaded.unet.conv_in.weight, first.unet.conv_in.weight)
    for wrong in ({"latent": TINY_VAE}, {"weights": str(vae_alone)}):
        with pytest.raises(ValidationError, match="unet_start: random needs weights and a latent of type vae"):
            small(**wrong, unet_start="random")


def test_folders_that_say_how_text_tokens_were_made_are_compared(pipeline_folder: Path, tmp_path: Path) -> None:
    """``vpolicy import vpp`` writes the entry; diffusers does not know it, and folders without it say nothing."""
    folder = shutil.copytree(pipeline_folder, tmp_path / "pipeline")
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"position_encode": True}))
    wrong = small(latent=TINY_VAE, weights=str(folder))
    for check in (wrong.fetch, lambda: wrong.build(SPACES)):
        with pytest.raises(WeightsError, match="position_encode is True there and False in the recipe"):
            check()
    right = small(latent=TINY_VAE, weights=str(folder), position_encode=True)
    right.fetch()
    right.build(SPACES)
    small(latent=TINY_VAE, weights=str(pipeline_folder), position_encode=True).fetch()
    vae_alone = small(latent=TINY_VAE, weights=str(folder), unet_start="random")
    vae_alone.fetch()
