"""Published checkpoints become our weights: names, shapes and what the models compute."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import released_names
from torch import Tensor, nn
from vpolicy_video_policy.importing import OpenClipTextImporter, VideoPolicyImporter
from vpolicy_video_policy.importing import names as renaming

from videopolicy import Checkpoint, Imported, WeightsError
from videopolicy.importing.folder import ensure_complete, ensure_same_policy, write_imported
from videopolicy.importing.reading import read_checkpoint
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.testing import ImporterContract, toy_benchmark, toy_observation
from videopolicy.training.checkpoints import load_weights
from videopolicy.training.stages import build_learner
from videopolicy.types import RowGenerator

ROOT = Path(__file__).resolve().parents[3]
OFFICIAL_SIZES = ((320, 640, 1280, 1280), (True, True, True, False), 2)
SMALL_SIZES = ((32, 64), (True, False), 1)

spec = importlib.util.spec_from_file_location("official_names", Path(__file__).with_name("official_names.py"))
official = importlib.util.module_from_spec(spec)
spec.loader.exec_module(official)

RECIPE = f"""\
plugins: [{toy_benchmark.__file__}]
benchmark: {{type: toy, task_names: [red]}}
policy:
  type: modular
  extractor:
    type: every-step
    frozen: true
    backbone:
      type: svd
      image_size: [16, 16]
      frames: 2
      views: concatenated
      pad_frame: true
      latent: {{type: vae, channels: [32, 64], layers: 2, condition_encoder: CONDITION}}
      text: {{type: word-text, width: 16, buckets: 8}}
      text_tokens: pooled
      double_text: false
      unet:
        {{channels: [32, 64], heads: [2, 2], attention: [true, false], layers: 1, time_ids_width: 8, norm_epsilon: sgm}}
    taps: [up1.0, up0.0, down0.downsample]
    adapter:
      stages: [[16, 2], [16, 2], [8, 2]]
      merges: [[8, 2], [8, 2]]
      squeeze: [[16, 2], [8, 2]]
      trunk: [[16, 2]]
      blocks: 1
      deep_layers: 1
      halvings: 1
      halving_blocks: 2
      deep_groups: 2
      norm_groups: 4
  decoder: {{type: action-unet, horizon: 4, down_dims: [8, 16], groups: 4, step_dim: 8, sampling_levels: {{steps: 2}}}}
train: [{{name: imported, init_from: weights, steps: 0}}]
"""


class Node(dict):
    """Stands for a configuration library's objects, of which published checkpoints are full."""


def small_recipe(folder: Path, condition: str = "own") -> Recipe:
    (folder / "recipe.yaml").write_text(RECIPE.replace("CONDITION", condition))
    return load_recipe(folder / "recipe.yaml")


def exported(policy: nn.Module, unet: Any, channels: Any, layers: int) -> dict[str, Tensor]:
    """Our policy's weights under official names, and the dead ones that official files have besides."""
    backbone = policy.extractor.backbone
    state = _backward(renaming.unet_names(official.unet(*unet)), backbone.unet, "model.diffusion_model.")
    first = [*official.encoder(channels, layers), *official.decoder(channels, layers, temporal=True)]
    state |= _backward(renaming.vae_names(first), backbone.latent.vae, "first_stage_model.")
    told = backbone.latent.condition_vae or backbone.latent.vae
    quant = [f"quant_conv.{kind}" for kind in official.WB]
    half = [*official.encoder(channels, layers), *quant]
    root = "conditioner.embedders.3.encoder."
    state |= _backward(renaming.vae_names(half), told, root)
    dead = [*official.decoder(channels, layers, temporal=False), *(f"post_{name}" for name in quant)]
    state |= {root + name: torch.zeros(1) for name in dead}
    clip = "conditioner.embedders.0.open_clip.model."
    state |= {clip + name: torch.zeros(1) for name in official.openclip_text(1)}
    branch = policy.extractor.adapter.branches[0]
    for name, value in policy.extractor.adapter.state_dict().items():
        theirs = _adapter_name(name, len(branch.stages), len(branch.squeeze))
        state[f"model.diffusion_model.vision_encoder.{theirs}"] = value.clone()
    for name, value in policy.decoder.network.state_dict().items():
        state[f"model.diffusion_model.pose_pred_net.{name}"] = value.clone()
    return state


def _backward(mapping: dict[str, str], module: nn.Module, prefix: str) -> dict[str, Tensor]:
    own = module.state_dict()
    found = {prefix + theirs: own[ours] for theirs, ours in mapping.items()}
    # Linear maps of the official autoencoder's attention are convolutions.
    return {
        name: value[..., None, None] if ".attn_1." in name and value.ndim == 2 else value.clone()
        for name, value in found.items()
    }


def _adapter_name(name: str, taps: int, squeezes: int) -> str:
    """The table in the documentation of our adapter, read from right to left."""
    part, _, rest = name.partition(".")
    if part == "norm":
        return name
    if part == "trunk":
        index, _, rest = rest.partition(".")
        return f"layer{int(index) + taps + squeezes + 1}.{rest}"
    view, group, index, rest = rest.split(".", 3)
    first = {"stages": 1, "merges": 2, "squeeze": taps + 1}[group]
    return f"layer{int(index) + first}_{int(view) + 1}{'_cat' if group == 'merges' else ''}.{rest}"


def randomised(policy: Any) -> Any:
    """No weight at its default, so that none can be mistaken for another; but a layer that is not official idle."""
    generator = torch.Generator().manual_seed(0)
    idle = policy.extractor.backbone.latent.vae.quant_conv
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        idle.weight.copy_(torch.eye(len(idle.bias))[..., None, None])
        idle.bias.zero_()
    return policy.eval()


def imported_folder(recipe: Recipe | None, state: dict[str, Tensor], folder: Path) -> tuple[Imported, Path]:
    """Through a file, as `vpolicy import` goes."""
    content = {"state_dict": state, "hyper_parameters": Node(a=Node()), "callbacks": {"best": Node()}, "epoch": 3}
    torch.save(content, folder / "official.ckpt")
    read = read_checkpoint(folder / "official.ckpt")
    assert len(read.inert) == 1
    imported = VideoPolicyImporter().convert(read)
    ensure_complete(imported, "official.ckpt")
    if recipe is not None:
        ensure_same_policy(imported, recipe, "official.ckpt")
    write_imported(imported, read, {}, folder / "weights", recipe)
    return imported, folder / "weights"


class TestWholePolicy:
    @pytest.mark.parametrize("condition", ["own", "shared"])
    def test_an_imported_policy_acts_as_the_exported_one(self, tmp_path: Path, condition: str) -> None:
        recipe = small_recipe(tmp_path, condition)
        policy = randomised(build_learner(recipe, "policy", 1))
        state = exported(policy, SMALL_SIZES, (32, 64), 2)
        imported, folder = imported_folder(recipe, state, tmp_path)
        assert imported.target == "policy"
        assert imported.options["extractor.backbone.latent.condition_encoder"] == condition
        assert ("condition encoder" in imported.parts) == (condition == "own")
        assert len(imported.dropped) == len([n for n in state if ".open_clip." in n or "encoder.decoder." in n]) + 2
        other = build_learner(recipe, "policy", 2).eval()
        other.extractor.backbone.text.load_state_dict(policy.extractor.backbone.text.state_dict())
        load_weights(other, folder)
        observation = toy_observation(recipe.benchmark.spaces(), recipe.policy.window(), batch_size=1)
        chunks = [one.act(observation, RowGenerator.from_seeds([0])) for one in (policy, other)]
        assert torch.equal(*chunks) and chunks[0].abs().max() > 0

    def test_names_that_nobody_knows_and_names_that_lack(self, tmp_path: Path) -> None:
        recipe = small_recipe(tmp_path)
        state = exported(build_learner(recipe, "policy", 1), SMALL_SIZES, (32, 64), 2)
        lost = [
            "model.diffusion_model.vision_encoder.layer1_1.0.conv2.0.weight",
            "model.diffusion_model.pose_pred_net.final_conv.1.bias",
            "model.diffusion_model.middle_block.1.time_stack.0.norm_in.weight",
            "first_stage_model.decoder.up.0.block.1.mix_factor",
            "conditioner.embedders.3.encoder.quant_conv.bias",
        ]
        surplus = ["model.diffusion_model.input_blocks.1.0.in_layers.7.weight", "first_stage_model.loss.w", "extra.w"]
        broken = {name: value for name, value in state.items() if name not in lost}
        broken |= {name: torch.ones(1) for name in surplus}
        imported = VideoPolicyImporter().convert(Checkpoint(Path("x.ckpt"), {"state_dict": broken}))
        assert sorted(imported.unexpected) == sorted(surplus)
        assert len(imported.missing) == len(lost)
        with pytest.raises(WeightsError, match=r"5 keys are missing .* 3 are unexpected"):
            ensure_complete(imported, "x.ckpt")

    def test_other_numbers_that_shapes_do_not_show_are_refused(self, tmp_path: Path) -> None:
        recipe = small_recipe(tmp_path)
        state = exported(build_learner(recipe, "policy", 1), SMALL_SIZES, (32, 64), 2)
        text = RECIPE.replace("CONDITION", "own").replace("norm_epsilon: sgm", "norm_epsilon: diffusers")
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(WeightsError, match=r"unet\.norm_epsilon is 'diffusers' in the recipe and must be 'sgm'"):
            imported_folder(load_recipe(tmp_path / "recipe.yaml"), state, tmp_path)


class TestVideoModel:
    def test_a_first_stage_is_a_backbone(self, tmp_path: Path) -> None:
        recipe = small_recipe(tmp_path)
        policy = randomised(build_learner(recipe, "policy", 1))
        state = exported(policy, SMALL_SIZES, (32, 64), 2)
        video = {n: v for n, v in state.items() if "vision_encoder" not in n and "pose_pred_net" not in n}
        imported, folder = imported_folder(None, video, tmp_path)
        assert imported.target == "policy.extractor.backbone" and imported.left_out == ("text.",)
        assert imported.options["unet.channels"] == [32, 64] and imported.options["latent.latent_channels"] == 4
        backbone = build_learner(recipe, "policy", 2).extractor.backbone
        load_weights(backbone, folder)
        for name, value in policy.extractor.backbone.unet.state_dict().items():
            assert torch.equal(backbone.unet.state_dict()[name], value)

    def test_encoders_are_one_when_their_last_layers_make_the_same_map(self) -> None:
        from vpolicy_video_policy.importing.checkpoints import same_encoder

        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(2, 2, generator=generator)
        one = {
            "encoder.conv_in.weight": torch.ones(2),
            "encoder.conv_out.weight": torch.randn(2, 3, 3, 3, generator=generator),
            "encoder.conv_out.bias": torch.randn(2, generator=generator),
            "quant_conv.weight": mix[..., None, None],
            "quant_conv.bias": torch.randn(2, generator=generator),
        }
        folded = {
            **one,
            "encoder.conv_out.weight": torch.einsum("oi,ichw->ochw", mix, one["encoder.conv_out.weight"]),
            "encoder.conv_out.bias": mix @ one["encoder.conv_out.bias"] + one["quant_conv.bias"],
            "quant_conv.weight": torch.eye(2)[..., None, None],
            "quant_conv.bias": torch.zeros(2),
        }
        assert same_encoder(one, folded, 1e-6)
        assert not same_encoder(one, {**folded, "quant_conv.bias": torch.full((2,), 1e-3)}, 1e-6)
        assert not same_encoder(one, {**folded, "encoder.conv_in.weight": torch.zeros(2)}, 1e-6)


@pytest.mark.slow
def test_the_official_names_and_shapes_are_those_of_the_recipe() -> None:
    recipe = load_recipe(
        ROOT / "recipes/video_policy_robocasa.yaml", ["policy.extractor.backbone.latent.condition_encoder=own"]
    )
    with torch.device("meta"):
        policy = build_learner(recipe, "policy", 0)
    state = exported(policy, OFFICIAL_SIZES, (128, 256, 512, 512), 2)
    families = {
        "model.diffusion_model.": 1428 + 1137 + 146,
        "model.diffusion_model.vision_encoder.": 1137,
        "model.diffusion_model.pose_pred_net.": 146,
        "first_stage_model.": 372,
        "conditioner.embedders.3.encoder.": 248,
    }
    assert {prefix: sum(name.startswith(prefix) for name in state) for prefix in families} == families
    inside = "model.diffusion_model."
    found = {name.removeprefix(inside): [*value.shape] for name, value in state.items() if name.startswith(inside)}
    assert found == released_names()
    # Of the right shapes, and of no size.
    hollow = {name: torch.zeros(1).expand(value.shape) for name, value in state.items()}
    hollow["conditioner.embedders.3.encoder.quant_conv.bias"] = torch.ones(8)
    imported = VideoPolicyImporter().convert(Checkpoint(Path("stage_2.ckpt"), {"state_dict": hollow}))
    assert imported.unexpected == [] and imported.missing == []
    ensure_same_policy(imported, recipe, "stage_2.ckpt")
    assert sum(value.numel() for value in imported.parts["video model"].values()) == 1_524_623_082


class TestVideoPolicyImporter(ImporterContract):
    @pytest.fixture
    def component(self) -> VideoPolicyImporter:
        return VideoPolicyImporter()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Checkpoint:
        policy = build_learner(small_recipe(tmp_path), "policy", 1)
        return Checkpoint(Path("x.ckpt"), {"state_dict": exported(policy, SMALL_SIZES, (32, 64), 2)})


class OpenClipText(nn.Module):
    """OpenCLIP's text tower: pre-norm blocks under a causal mask, read at the largest token."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int, out: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(length, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(OpenClipBlock(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, out))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer.resblocks:
            hidden = block(hidden)
        return self.ln_final(hidden)[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


class OpenClipBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        seen = self.ln_1(hidden)
        mask = torch.full((hidden.shape[1],) * 2, float("-inf")).triu(1)
        hidden = hidden + self.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
        return hidden + self.mlp.c_proj(nn.functional.gelu(self.mlp.c_fc(self.ln_2(hidden))))


class TestOpenClipText(ImporterContract):
    @pytest.fixture
    def component(self) -> OpenClipTextImporter:
        return OpenClipTextImporter(heads=4)

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        torch.manual_seed(0)
        state = OpenClipText(40, 9, 32, 3, 4, 24).state_dict()
        assert sorted(state) == sorted(official.openclip_text(3))
        return Checkpoint(Path("open_clip_pytorch_model.bin"), {**state, "visual.conv1.weight": torch.ones(1)})

    @pytest.mark.parametrize("inside", ["", "conditioner.embedders.0.open_clip.model."])
    def test_the_folder_computes_what_openclip_does(
        self, component: OpenClipTextImporter, checkpoint: Checkpoint, tmp_path: Path, inside: str
    ) -> None:
        from transformers import CLIPTextModelWithProjection

        torch.save({inside + name: value for name, value in checkpoint.state.items()}, tmp_path / "x.bin")
        read = read_checkpoint(tmp_path / "x.bin")
        imported = component.convert(read)
        ensure_complete(imported, "x.bin")
        write_imported(imported, read, {}, tmp_path / "clip")
        tower = OpenClipText(40, 9, 32, 3, 4, 24)
        tower.load_state_dict({n: v for n, v in checkpoint.state.items() if not n.startswith("visual.")})
        model, info = CLIPTextModelWithProjection.from_pretrained(tmp_path / "clip", output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        # Begins with 38, ends with 39, and nothing behind the end counts.
        ids = torch.tensor([[38, 3, 17, 39, 0, 0, 0, 0, 0], [38, 5, 6, 7, 8, 9, 10, 11, 39]])
        with torch.no_grad():
            torch.testing.assert_close(model.eval()(input_ids=ids).text_embeds, tower(ids), atol=1e-5, rtol=0)
        assert any("tokenizer" in sentence and "hf download" in sentence for sentence in imported.not_carried)

    def test_the_released_size(self, component: OpenClipTextImporter) -> None:
        from vpolicy_video_policy.importing.text import convert

        shapes = dict.fromkeys(official.openclip_text(24), (1024,)) | {
            "token_embedding.weight": (49408, 1024),
            "positional_embedding": (77, 1024),
            "text_projection": (1024, 1024),
        }
        for name in shapes:
            if "in_proj" in name:
                shapes[name] = (3072, 1024) if name.endswith("weight") else (3072,)
            elif "c_fc.weight" in name:
                shapes[name] = (4096, 1024)
        state = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
        config = convert(Checkpoint(Path("x.bin"), state), None, "gelu").documents["config.json"]
        assert (config["num_attention_heads"], config["num_hidden_layers"], config["hidden_act"]) == (16, 24, "gelu")
        assert (config["hidden_size"], config["projection_dim"], config["eos_token_id"]) == (1024, 1024, 49407)
