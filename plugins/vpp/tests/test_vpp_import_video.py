"""`vpolicy import vpp` on video models as stage 1 saves them: what no file shows is carried and compared."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_clip import write_clip
from vpolicy_vpp.importing import VppImporter
from vpp_official_files import BACKBONE, UNET, hollow, write_pipeline

from videopolicy import Checkpoint, WeightsError
from videopolicy.importing.folder import ensure_complete, ensure_same_policy
from videopolicy.recipes.recipe import load_recipe
from videopolicy.training.inputs import ensure_inputs

ROOT = Path(__file__).resolve().parents[3]
Vpolicy = Callable[..., tuple[int, str]]

RECIPE = (
    BACKBONE
    + """\
  decoder: {type: dit-diffusion, text: {type: word-text}}
train: [{name: imported, init_from: weights, steps: 0}]
"""
)
IMPORT = ("import", "vpp", "svd-robot", "-o", "video", "--quiet")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """The folder ``svd-robot``, and the recipe that goes with it."""
    write_pipeline(tmp_path / "svd-robot")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "svd-robot"


def with_config(folder: Path, part: str, **changes: Any) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestFolder:
    def test_files_are_linked_and_say_what_the_text_tokens_had(
        self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path
    ) -> None:
        code, said = vpolicy(*IMPORT, "position_encode=true")
        assert code == 0, said
        for text in (
            "svd-robot, for policy.extractor.backbone",
            "policy.extractor.backbone.weights: video",
            "position_encode: true",
            "a recipe needs policy.extractor.backbone.text: {width: 16}",
            "a recipe needs policy.extractor.backbone.unet: {attention: [true, false], channels: [32, 64]",
            "files taken over as they are: 2 (linked, no copy)",
            "CLIP's image tower, in whose place this model reads the sentence (image_encoder)",
        ):
            assert text in said, said
        assert "init_from" not in said
        written = {str(path.relative_to(tmp_path / "video")) for path in (tmp_path / "video").rglob("*.*")}
        parts = {f"{part}/{name}" for part in ("unet", "vae") for name in ("config.json", WEIGHTS)}
        assert written == parts | {"import.json"}
        for part in ("unet", "vae"):
            assert (tmp_path / "video" / part / WEIGHTS).samefile(downloaded / part / WEIGHTS)
        config = json.loads((tmp_path / "video/unet/config.json").read_text())
        assert config == json.loads((downloaded / "unet/config.json").read_text()) | {"position_encode": True}
        facts = json.loads((tmp_path / "video/import.json").read_text())
        assert facts["importer"]["position_encode"] is True
        assert set(facts["source"]["files"]) == {f"unet/{WEIGHTS}", f"vae/{WEIGHTS}"}
        # The source may go: a link is the file itself.
        shutil.rmtree(downloaded)
        assert len(load_file(tmp_path / "video/unet" / WEIGHTS)) > 100

    def test_files_are_copied_where_there_are_no_links(
        self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none(*_: Any) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", none)
        code, said = vpolicy(*IMPORT, "position_encode=true")
        assert code == 0 and "2 (copied, for the disk has no links or is another one)" in said, said
        for part in ("unet", "vae"):
            copied, own = tmp_path / "video" / part / WEIGHTS, downloaded / part / WEIGHTS
            assert copied.read_bytes() == own.read_bytes() and not copied.samefile(own)

    def test_weights_in_the_hubs_cache_are_links_themselves(
        self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path
    ) -> None:
        for part in ("unet", "vae"):
            blob = (downloaded / part / WEIGHTS).rename(tmp_path / f"{part}-blob")
            (downloaded / part / WEIGHTS).symlink_to(blob)
        assert vpolicy(*IMPORT, "position_encode=true")[0] == 0
        found = tmp_path / "video/unet" / WEIGHTS
        assert not found.is_symlink() and found.samefile(tmp_path / "unet-blob")

    def test_a_folder_is_replaced_only_when_asked(self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path) -> None:
        assert vpolicy(*IMPORT, "position_encode=true")[0] == 0
        code, said = vpolicy(*IMPORT, "position_encode=false")
        assert code == 2 and "video holds weights already" in said and "--force" in said
        assert vpolicy(*IMPORT, "position_encode=false", "--force")[0] == 0
        assert json.loads((tmp_path / "video/unet/config.json").read_text())["position_encode"] is False
        code, said = vpolicy("import", "vpp", "svd-robot", "position_encode=true", "-o", "svd-robot", "--force")
        assert code == 2 and "svd-robot is the folder that is read" in said
        assert "position_encode" not in (downloaded / "unet/config.json").read_text()


class TestRecipe:
    def test_a_recipe_without_positions_is_an_error_before_anything_is_built(
        self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, said = vpolicy(*IMPORT, "position_encode=true", "--recipe", "recipe.yaml")
        assert code == 2 and "position_encode is False in the recipe and must be True" in said, said
        assert not (tmp_path / "video").exists()
        assert vpolicy(*IMPORT, "position_encode=true")[0] == 0
        write_clip(tmp_path / "clip", 16)
        monkeypatch.chdir(tmp_path)
        wrong = load_recipe(tmp_path / "recipe.yaml")
        message = "position_encode is True there and False in the recipe"
        for build in (lambda: ensure_inputs(wrong), lambda: wrong.part("policy").build(wrong.benchmark.spaces())):
            with pytest.raises(WeightsError, match=message) as caught:
                build()
            assert "options of `svd`" in caught.value.hint
        override = ["policy.extractor.backbone.position_encode=true"]
        right = load_recipe(tmp_path / "recipe.yaml", override)
        backbone = right.part("policy.extractor.backbone").build(right.benchmark.spaces())
        state = load_file(downloaded / "unet" / WEIGHTS)
        assert all(torch.equal(value, state[name]) for name, value in backbone.unet.state_dict().items())

    def test_the_command_ends_with_2(self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path) -> None:
        assert vpolicy(*IMPORT, "position_encode=true")[0] == 0
        write_clip(tmp_path / "clip", 16)
        (tmp_path / "weights").mkdir()
        code, said = vpolicy("run", "recipe.yaml", "--quiet")
        assert code == 2 and "position_encode is True there and False in the recipe" in said, said

    def test_the_released_size_is_that_of_the_shipped_recipe(self, tmp_path: Path) -> None:
        """Both models, of the right shapes and of no size."""
        from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

        with torch.device("meta"):
            models = {
                "unet": UNetSpatioTemporalConditionModel(sample_size=96, num_frames=14),
                "vae": AutoencoderKLTemporalDecoder(
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    block_out_channels=(128, 256, 512, 512),
                    layers_per_block=2,
                ),
            }
        content = {}
        for part, model in models.items():
            (tmp_path / part).mkdir()
            config = {"_class_name": type(model).__name__, **model.config}
            (tmp_path / part / "config.json").write_text(json.dumps(config))
            content[part] = hollow({name: tuple(value.shape) for name, value in model.state_dict().items()})
        importer = VppImporter(position_encode=False)
        imported = importer.convert(Checkpoint(tmp_path, content))
        ensure_complete(imported, "svd-robot-calvin-ft")
        assert sum(value.numel() for value in imported.parts["video model"].values()) == 1_524_623_082
        recipe = load_recipe(ROOT / "recipes/vpp_calvin.yaml")
        ensure_same_policy(imported, recipe, "svd-robot-calvin-ft")
        imported.options["position_encode"] = True
        with pytest.raises(WeightsError, match="position_encode is False in the recipe and must be True"):
            ensure_same_policy(imported, recipe, "svd-robot")


class TestBadInput:
    """One message, what to do, and exit code 2."""

    def message_of(self, vpolicy: Vpolicy, folder: Path, *arguments: str) -> str:
        code, said = vpolicy(*IMPORT, *arguments)
        assert code == 2, said
        assert not (folder / "video").exists()
        return said

    def test_nobody_says_what_no_file_shows(self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path) -> None:
        said = self.message_of(vpolicy, tmp_path)
        assert "nothing in the files of a video model shows whether positions were added to the text tokens" in said
        assert "position_encode=true for svd-robot, position_encode=false for svd-robot-calvin-ft" in said

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"in_channels": 9}, "in_channels is 9, not 8"),
            ({"cross_attention_dim": [32, 32]}, "cross_attention_dim is [32, 32], not one number"),
            ({"cross_attention_dim": 33}, "cross_attention_dim is 33, which is not twice the width of text tokens"),
            ({"up_block_types": ["UpBlockSpatioTemporal"] * 2}, "not ['UpBlockSpatioTemporal', 'CrossAttnUpBlock"),
            ({"layers_per_block": [1, 2]}, "layers_per_block is [1, 2], not one number"),
        ],
    )
    def test_a_unet_that_ours_cannot_be(
        self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        with_config(downloaded, "unet", **changes)
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert "svd-robot/unet is a UNet of another shape: " in said and message in said, said
        assert "Only video models with the parts of Stable Video Diffusion" in said

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"block_out_channels": (64, 64)}, "unet.channels is [32, 64] in the recipe and must be [64, 64]"),
            ({"cross_attention_dim": 48}, "text.width is 16 in the recipe and must be 24"),
            ({"num_attention_heads": (4, 4)}, "unet.heads is [2, 2] in the recipe and must be [4, 4]"),
        ],
    )
    def test_a_unet_of_another_shape_than_the_recipe_says(
        self, vpolicy: Vpolicy, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        write_pipeline(tmp_path / "svd-robot", UNET | changes)
        (tmp_path / "recipe.yaml").write_text(RECIPE)
        said = self.message_of(vpolicy, tmp_path, "position_encode=false", "--recipe", "recipe.yaml")
        assert "svd-robot needs other options of policy.extractor.backbone" in said and message in said, said
        assert "Change the recipe" in said

    def test_tensors_that_are_not_those_of_the_description(
        self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path
    ) -> None:
        path = downloaded / "unet" / WEIGHTS
        state = load_file(path)
        state["extra.weight"] = state.pop("conv_out.bias")
        save_file({**state, "conv_in.bias": torch.zeros(3)}, path)
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert "1 keys are missing (unet: conv_out.bias), 2 are unexpected (unet: conv_in.bias of shape (3,)" in said
        assert "unet: extra.weight" in said

    def test_names_in_wrappers_of_training(self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path) -> None:
        """The files are taken over as they are, and `svd` finds no such name in them."""
        path = downloaded / "unet" / WEIGHTS
        save_file({f"_orig_mod.{name}": value for name, value in load_file(path).items()}, path)
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert "keys are missing (unet: add_embedding.linear_1.bias" in said
        assert "are unexpected (unet: _orig_mod.add_embedding.linear_1.bias" in said

    def test_files_that_are_missing_cut_short_or_of_something_else(
        self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path
    ) -> None:
        whole = (downloaded / "vae" / WEIGHTS).read_bytes()
        (downloaded / "vae" / WEIGHTS).write_bytes(whole[:-100])
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert f"svd-robot/vae/{WEIGHTS} is damaged, cut short, or no checkpoint" in said
        assert "compare with the published size" in said
        (downloaded / "vae" / WEIGHTS).unlink()
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert f"There is no checkpoint svd-robot/vae/{WEIGHTS}" in said
        (downloaded / "vae" / WEIGHTS).write_bytes(whole)
        (downloaded / "vae/config.json").write_text("{")
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert "svd-robot/vae/config.json is no JSON" in said and "Download the folder again" in said
        (downloaded / "vae/config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert "describes AutoencoderKL, not AutoencoderKLTemporalDecoder" in said
        (downloaded / "vae/config.json").unlink()
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert "svd-robot/vae/config.json cannot be read: No such file or directory" in said

    def test_numbers_that_are_none(self, vpolicy: Vpolicy, downloaded: Path, tmp_path: Path) -> None:
        path = downloaded / "unet" / WEIGHTS
        state = load_file(path)
        state["conv_in.bias"][0] = torch.nan
        save_file(state, path)
        said = self.message_of(vpolicy, tmp_path, "position_encode=true")
        assert "'conv_in.bias' contains NaN" in said
