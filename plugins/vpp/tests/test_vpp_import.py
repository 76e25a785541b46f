"""`vpolicy import vpp` on action models as they were published: names, sizes, what they compute, and bad input."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import recorded
from small_clip import write_clip
from torch import Tensor, nn
from vpolicy_vpp.importing import VppImporter
from vpp_official_files import BACKBONE, TINY, hollow, random, write_action_model, write_pipeline
from vpp_official_names import Clip, Shapes, Sizes, calvin, former, hub_text, network, openai_image, openai_text, robot

from videopolicy import Checkpoint, RowGenerator, WeightsError
from videopolicy.console.progress import Reporter
from videopolicy.importing.folder import ensure_complete, ensure_same_policy
from videopolicy.importing.reading import read_published
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.store import Store
from videopolicy.testing import ImporterContract, toy_observation
from videopolicy.training.planning import plan
from videopolicy.training.session import Session
from videopolicy.training.stages import load_policy, train

ROOT = Path(__file__).resolve().parents[3]
Vpolicy = Callable[..., tuple[int, str]]

RECIPE = (
    BACKBONE
    + """\
    taps: [up0, up1]
    former: {type: video-former, dim: 16, depth: 2, heads: 2, dim_head: 64, latents_per_frame: 3}
  decoder:
    type: dit-diffusion
    horizon: 4
    width: 16
    encoder_layers: 1
    decoder_layers: 2
    text: {type: clip-text, weights: clip, max_length: 77, width: 16, pooled_width: 16}
    sampling_levels: {steps: 10, lowest: 1.0}
train: [{name: imported, init_from: weights, steps: 0}]
eval: {episodes: 1, workers: 1, batch_size: 1}
tracking: []
"""
)
IMPORT = ("import", "vpp", "dp-calvin", "taps=[up0,up1]", "-o", "weights", "--quiet")


def downloaded(folder: Path, state: dict[str, Tensor] | None = None, **entries: Any) -> Path:
    """The folder ``dp-calvin``, and the recipe that goes with it."""
    (folder / "recipe.yaml").write_text(RECIPE)
    state = random(calvin(TINY)) if state is None else state
    return write_action_model(folder / "dp-calvin/saved_models/0055000_0.062.pt", state, **entries)


def checkpoint_of(shapes: Shapes, **entries: Any) -> Checkpoint:
    return Checkpoint(Path("x.pt"), {"model": hollow(shapes), "args": object, **entries})


class TouchesAFile:
    """Pickles to a call of ``open``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


class TestOfficialNames:
    def test_the_released_size_has_760_tensors_in_four_families(self) -> None:
        shapes = calvin(Sizes())
        families = ("Video_Former.", "model.inner_model.", "language_goal.clip_rn50.", "TVP_encoder.text_encoder.")
        found = Counter(next(family for family in families if name.startswith(family)) for name in shapes)
        assert found == dict(zip(families, (104, 157, 302, 197), strict=True))
        assert sum(value.numel() for value in hollow(shapes).values()) == pytest.approx(255.0e6, rel=1e-3)

    def test_they_are_those_of_the_recorded_official_modules(self) -> None:
        recording = recorded("vpp")
        meta, state = recording["meta"], recording["state"]
        video, goal, hub, denoiser = (
            meta[name] for name in ("video_former", "goal_text_encoder", "text_encoder", "denoiser")
        )
        clip = Clip(
            out=goal["embed_dim"],
            vocabulary=goal["vocab_size"],
            width=goal["transformer_width"],
            layers=goal["transformer_layers"],
            hub_vocabulary=hub["vocab_size"],
            hub_width=hub["hidden_size"],
            hub_hidden=hub["intermediate_size"],
            hub_layers=hub["num_hidden_layers"],
        )
        sizes = Sizes(
            channels=video["condition_dim"],
            dim=video["dim"],
            depth=video["depth"],
            inner=video["heads"] * video["dim_head"],
            frames=video["num_frame"],
            latents=video["latents_per_frame"],
            horizon=denoiser["horizon"],
            actions=denoiser["action_dim"],
            clip=clip,
        )
        dead = {name for name in network(sizes) if name.startswith("goal_emb.")}  # which the recording leaves out
        written = {
            "Video_Former": former(sizes),
            "Video_Former_2D": former(replace(sizes, temporal=False)),
            "model": {f"inner_model.{name}": shape for name, shape in network(sizes).items() if name not in dead},
            "language_goal": {f"clip_rn50.{name}": shape for name, shape in openai_text(clip).items()},
            "text_encoder": hub_text(clip),
        }
        for family, shapes in written.items():
            assert {name: tuple(value.shape) for name, value in state[family].items()} == shapes, family


class TestReleasedSize:
    @pytest.mark.slow
    def test_the_shipped_recipe_is_what_the_file_needs(self) -> None:
        recipe = load_recipe(ROOT / "recipes/vpp_calvin.yaml")
        imported = VppImporter().convert(checkpoint_of(calvin(Sizes())))
        assert (imported.unexpected, imported.missing) == ([], [])
        ensure_same_policy(imported, recipe, "x.pt")
        parts = {name: sum(value.numel() for value in part.values()) for name, part in imported.parts.items()}
        assert parts["former"] == pytest.approx(17.71e6, rel=1e-3)
        assert imported.options["extractor.taps"] == ["up0", "up1"]
        assert imported.options["extractor.backbone.position_encode"] is False
        assert (imported.options["decoder.horizon"], imported.options["decoder.sampling_levels.lowest"]) == (10, 1.0)
        assert imported.statistics is not None and imported.normalization == {"actions": "identity"}
        assert len(imported.statistics.actions.mean) == 7 and imported.statistics.state is None
        with pytest.raises(WeightsError, match=r"taps is \['up1'\] in the recipe and must be \['up0', 'up1'\]"):
            narrow = load_recipe(ROOT / "recipes/vpp_calvin.yaml", ["policy.extractor.taps=[up1]"])
            ensure_same_policy(imported, narrow, "x.pt")

    @pytest.mark.parametrize(
        ("changes", "options"),
        [
            ({"channels": 1280}, {"extractor.taps": ["up1"]}),
            ({"channels": 3200}, {"extractor.taps": ["up0", "up1", "up2"]}),
            ({"latents": 28, "frames": 8, "horizon": 4, "actions": 4}, {"decoder.horizon": 4}),
            ({"temporal": False}, {"extractor.former.type": "video-former-2d"}),
            ({"inner": 256, "depth": 2}, {"extractor.former.heads": 4, "extractor.former.depth": 2}),
        ],
    )
    def test_sizes_are_read_off_the_tensors(self, changes: dict[str, Any], options: dict[str, Any]) -> None:
        imported = VppImporter().convert(checkpoint_of(calvin(replace(Sizes(), **changes))))
        assert (imported.unexpected, imported.missing) == ([], [])
        assert {name: imported.options[name] for name in options} == options

    def test_channels_of_no_official_configuration(self) -> None:
        imported = VppImporter().convert(checkpoint_of(calvin(replace(Sizes(), channels=960))))
        assert "extractor.taps" not in imported.options
        assert any("960 channels" in sentence and "taps=[NAME,...]" in sentence for sentence in imported.not_carried)

    def test_policies_of_real_robots_read_the_state_and_positions(self) -> None:
        """``VPP_policy_xbot.py`` at 38 joints, chunks of 8 and one feature map."""
        shapes = robot(replace(Sizes(), channels=1280, actions=38, state=38, horizon=8))
        imported = VppImporter().convert(checkpoint_of(shapes))
        assert (imported.unexpected, imported.missing) == ([], [])
        wanted = {
            "extractor.taps": ["up1"],
            "extractor.backbone.position_encode": True,
            "decoder.proprioception": True,
            "decoder.horizon": 8,
        }
        assert {name: imported.options[name] for name in wanted} == wanted
        assert "decoder.sampling_levels.lowest" not in imported.options
        assert imported.parts["diffusion transformer"]["decoder.network.proprio_emb.0.weight"].shape == (768, 38)
        assert imported.statistics is None and any("percentile" in one for one in imported.not_carried)


class TestCommand:
    def test_imported_video_and_action_models_act_as_the_exported_ones(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        state = random(calvin(TINY))
        downloaded(tmp_path, state)
        unet, vae = write_pipeline(tmp_path / "svd-robot-calvin")
        write_clip(tmp_path / "clip", 16)
        video = ("import", "vpp", "svd-robot-calvin", "position_encode=false", "-o", "video", "--quiet")
        code, said = vpolicy(*video, "--recipe", "recipe.yaml")
        assert code == 0, said
        code, said = vpolicy(*IMPORT, "--recipe", "recipe.yaml")
        assert code == 0 and "scaling of actions and state: from the checkpoint" in said, said
        assert "not run:" in said and "omegaconf" in said
        assert "train: [{name: imported, init_from: weights, steps: 0}]" in said

        store = Store(tmp_path / "home")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            recipe = load_recipe(tmp_path / "recipe.yaml")
            planned = plan(recipe, None, store)
            train(Session(recipe, store, torch.device("cpu"), Reporter(quiet=True)), planned[0], None)
            policy, normalizer = load_policy(recipe, planned)
        same(policy.get_submodule("extractor.backbone.unet"), unet)
        same(policy.get_submodule("extractor.backbone.latent.vae"), vae)
        for theirs, ours in {"Video_Former.": "extractor.former", "model.inner_model.": "decoder.network"}.items():
            for name, value in policy.get_submodule(ours).state_dict().items():
                assert torch.equal(value, state[theirs + name]), name
        assert normalizer.action_scale.tolist() == [1.0, 1.0] and normalizer.action_shift.tolist() == [0.0, 0.0]
        observation = toy_observation(recipe.benchmark.spaces(), recipe.policy.window(), batch_size=1)
        chunk = policy.eval().act(observation, RowGenerator.from_seeds([0]))
        assert chunk.shape == (1, 4, 2) and torch.isfinite(chunk).all() and chunk.abs().max() > 0

    def test_what_is_said_without_a_recipe_and_what_is_kept(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        file = downloaded(tmp_path)
        code, said = vpolicy(*IMPORT)
        assert code == 0, said
        for text in (
            "a recipe needs policy.extractor.former: {depth: 2, dim: 16, dim_head: 64, ff_mult: 4, heads: 2",
            "a recipe needs policy.extractor.backbone: {double_text: true, frames: 2, level_max: 700, "
            "position_encode: false",
            "a recipe needs policy.decoder.sampling_levels: {highest: 80, lowest: 1.0, schedule: exponential,",
            "a recipe needs normalization: {actions: identity}",
            "the recipe's clip-text loads the same from openai/clip-vit-base-patch32",
            "a reader of the robot's state, which CALVIN's policy is never given",
        ):
            assert text in said, said
        facts = json.loads((tmp_path / "weights/import.json").read_text())
        assert facts["source"]["file"] == file.name and facts["trusted"] is False
        clip = TINY.clip
        towers = len(openai_text(clip) | openai_image(clip)) + len(hub_text(clip))
        unread = 1 + 4 + 4  # pos_emb, goal_emb, proprio_emb
        assert sum(map(len, facts["dropped"].values())) == towers + unread + 1  # args
        scaling = json.loads((tmp_path / "weights/normalization.json").read_text())
        assert scaling["modes"]["actions"] == "identity" and scaling["statistics"]["state"] is None

    def test_nothing_in_a_file_is_run(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        harm = tmp_path / "harm"
        downloaded(tmp_path, hook=TouchesAFile(harm))
        code, said = vpolicy(*IMPORT)
        assert code == 0 and not harm.exists(), said
        code, said = vpolicy(*IMPORT, "--force", "--trust")
        assert code == 0 and harm.exists() and "not run" not in said, said


class TestBadInput:
    """One message, what to do, and exit code 2."""

    def message_of(self, vpolicy: Vpolicy, folder: Path, *arguments: str) -> str:
        code, said = vpolicy("import", "vpp", *arguments, "-o", "weights")
        assert code == 2, said
        assert not (folder / "weights").exists()
        return said

    def test_names_that_nobody_knows_and_names_that_lack(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        state = random(calvin(TINY)) | {"model.inner_model.extra.weight": torch.zeros(2), "head.weight": torch.zeros(2)}
        lost = ("Video_Former.layers.1.2.3.weight", "model.inner_model.decoder.blocks.1.ln3.bias")
        downloaded(tmp_path, {name: value for name, value in state.items() if name not in lost})
        said = self.message_of(vpolicy, tmp_path, "dp-calvin")
        assert f"2 keys are missing ({', '.join(lost)}), 2 are unexpected (head.weight, model.inner_model.extra" in said
        assert "Name weights of this architecture" in said

    def test_another_shape_inside(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        downloaded(tmp_path, random(calvin(TINY)) | {"Video_Former.layers.1.0.to_q.weight": torch.zeros(64, 16)})
        said = self.message_of(vpolicy, tmp_path, "dp-calvin")
        assert "Video_Former.layers.1.0.to_q.weight of shape (64, 16) instead of (128, 16)" in said

    @pytest.mark.parametrize("lost", ["Video_Former.latents", "model.inner_model.pos_emb"])
    def test_what_sizes_are_read_off(self, vpolicy: Vpolicy, tmp_path: Path, lost: str) -> None:
        downloaded(tmp_path, {name: value for name, value in random(calvin(TINY)).items() if name != lost})
        said = self.message_of(vpolicy, tmp_path, "dp-calvin")
        assert f"lacks {lost}, by which sizes are known" in said and "holds the whole action model" in said

    def test_files_of_other_methods(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        torch.save({"state_dicts": {"ema_model": {"model.w": torch.ones(1)}}, "cfg": {}}, tmp_path / "uva.ckpt")
        said = self.message_of(vpolicy, tmp_path, "uva.ckpt")
        assert "has no entry 'model'; it has cfg, state_dicts" in said and "Name a checkpoint of the method" in said
        torch.save({"model": {"encoder.blocks.0.w": torch.ones(1)}}, tmp_path / "mar.pt")
        said = self.message_of(vpolicy, tmp_path, "mar.pt")
        assert "no name in it that begins with Video_Former. (they begin with encoder.blocks)" in said
        assert "yjguo/dp-calvin" in said

    def test_a_file_that_is_cut_short(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        file = downloaded(tmp_path)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        said = self.message_of(vpolicy, tmp_path, "dp-calvin")
        assert "is damaged, cut short, or no checkpoint" in said and "compare with the published size" in said

    def test_tensors_inside_an_object_need_trust(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        torch.save({"model": nn.Linear(2, 2)}, tmp_path / "x.pt")
        said = self.message_of(vpolicy, tmp_path, "x.pt")
        assert "model holds no weights that can be read without running code: it is an object of class torch.nn" in said
        assert "--trust" in said

    def test_a_recipe_of_other_sizes(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        downloaded(tmp_path)
        wrong = RECIPE.replace("depth: 2", "depth: 3").replace("lowest: 1.0", "lowest: 0.001")
        (tmp_path / "wrong.yaml").write_text(wrong)
        said = self.message_of(vpolicy, tmp_path, "dp-calvin", "--recipe", "wrong.yaml")
        assert "extractor.former.depth is 3 in the recipe and must be 2" in said
        assert "decoder.sampling_levels.lowest is 0.001 in the recipe and must be 1.0" in said
        (tmp_path / "wrong.yaml").write_text(RECIPE.replace("taps: [up0, up1]", "taps: [up1]"))
        said = self.message_of(vpolicy, tmp_path, "dp-calvin", "taps=[up0,up1]", "--recipe", "wrong.yaml")
        assert "extractor.taps is ['up1'] in the recipe and must be ['up0', 'up1']" in said
        said = self.message_of(vpolicy, tmp_path, "dp-calvin", "--recipe", "wrong.yaml")
        assert "goal_emb.0.weight is (32, 96) in the file and (32, 32) in the model" in said

    def test_a_recipe_whose_text_tokens_get_positions(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        downloaded(tmp_path)
        (tmp_path / "wrong.yaml").write_text(RECIPE.replace("frames: 2", "frames: 2\n      position_encode: true"))
        said = self.message_of(vpolicy, tmp_path, "dp-calvin", "--recipe", "wrong.yaml")
        assert "extractor.backbone.position_encode is True in the recipe and must be False" in said
        code, said = vpolicy(*IMPORT, "position_encode=true", "--recipe", "wrong.yaml")
        assert code == 0, said

    def test_folders_with_no_checkpoint_and_with_several(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty/README.md").touch()
        said = self.message_of(vpolicy, tmp_path, "empty")
        assert "empty holds neither an action model (saved_models/*.pt) nor a video model" in said
        assert "there are README.md" in said and "hf download yjguo/dp-calvin" in said
        file = downloaded(tmp_path)
        file.with_name("last.pt").write_bytes(file.read_bytes())
        said = self.message_of(vpolicy, tmp_path, "dp-calvin")
        assert "holds 2 checkpoints: saved_models/0055000_0.062.pt, saved_models/last.pt" in said
        assert "Name one of these files" in said
        assert vpolicy("import", "vpp", "dp-calvin/saved_models/last.pt", "-o", "weights")[0] == 0

    def test_heads_that_do_not_divide(self, vpolicy: Vpolicy, tmp_path: Path) -> None:
        downloaded(tmp_path)
        said = self.message_of(vpolicy, tmp_path, "dp-calvin", "former_heads=3")
        assert "128 and 16 channels do not come apart into 3 attention heads" in said


def same(module: nn.Module, other: nn.Module) -> None:
    for name, value in other.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name


def test_both_ways_of_naming_a_released_folder(tmp_path: Path) -> None:
    file = downloaded(tmp_path)
    for place in (file, tmp_path / "dp-calvin", file.parent):
        read = read_published(VppImporter(), place)
        assert read.path == file and "omegaconf.dictconfig.DictConfig" in read.inert
        imported = VppImporter().convert(read)
        ensure_complete(imported, file.name)


class TestVppImporter(ImporterContract):
    @pytest.fixture
    def component(self) -> VppImporter:
        return VppImporter()

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        return checkpoint_of(calvin(TINY))

    @pytest.fixture
    def keys(self) -> tuple[str, ...]:
        return ("model",)
