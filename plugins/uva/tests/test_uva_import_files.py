"""`vpolicy import` on files as they were published: read without running them, scaled as they were, used by recipes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vpolicy_uva.importing import UvaImporter
from vpolicy_uva.importing import names as renaming

from videopolicy import Checkpoint, RowGenerator
from videopolicy.console.progress import Reporter
from videopolicy.importing.folder import ensure_complete
from videopolicy.importing.reading import read_checkpoint
from videopolicy.recipes.recipe import Normalization, load_recipe
from videopolicy.storage.store import Store
from videopolicy.testing import ImporterContract, toy_benchmark, toy_observation
from videopolicy.training.normalization import Normalizer
from videopolicy.training.planning import plan
from videopolicy.training.session import Session
from videopolicy.training.stages import build_learner, load_policy, train

spec = importlib.util.spec_from_file_location("uva_official_files", Path(__file__).with_name("uva_official_files.py"))
files = sys.modules["uva_official_files"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
official = files.official

RECIPE = f"""\
plugins: [{toy_benchmark.__file__}]
benchmark: {{type: toy, task_names: [red], max_steps: 3}}
policy:
  type: uva
  joint:
    image_size: [16, 16]
    text: null
    latent: {{type: kl, channels: [32, 32, 32]}}
    transformer: {{width: 32, depth: 2, heads: 2, decoder_width: 16, decoder_depth: 1}}
    video: {{width: 24, depth: 2, sampling_steps: 2}}
  action: {{type: uva-action, head: {{width: 24, depth: 2, sampling_steps: 4}}}}
normalization: {{actions: minmax, state: minmax}}
train: [{{name: imported, init_from: weights, steps: 0}}]
eval: {{episodes: 1, workers: 1, batch_size: 1}}
tracking: []
"""


def exported(policy: nn.Module, variant: Any) -> dict[str, Tensor]:
    """Our policy's weights under official names."""
    own = policy.state_dict()
    ours = renaming.model_names(official.model(variant, files.TINY), variant.aggregation)
    state = {f"model.{theirs}": own[name].clone() for theirs, name in ours.items()}
    ours = renaming.autoencoder_names(shapes := official.autoencoder(files.TINY_WIDTHS))
    inside = {theirs: own[f"joint.latent.vae.{name}"].clone() for theirs, name in ours.items()}
    return state | {f"vae_model.{name}": value.view(shapes[name]) for name, value in inside.items()}


def randomised(module: nn.Module) -> Any:
    """No weight at its default, so that none can be mistaken for another."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


class TouchesAFile:
    """Pickles to a call of ``open``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def published(path: Path, state: dict[str, Tensor], harm: Path | None = None, **options: Any) -> Path:
    """As the official workspace saves: a configuration of omegaconf, counters pickled by dill."""
    dill, omegaconf = pytest.importorskip("dill"), pytest.importorskip("omegaconf")
    cfg = {"name": "uva", "task": {"shape_meta": {"action": [2]}, "path": "${name}/x"}, "debug": None, "lr": 1e-4}
    content = {
        "cfg": omegaconf.OmegaConf.create(cfg),
        "state_dicts": {
            "model": {f"module.{name}": value + 1 for name, value in state.items()},
            "ema_model": OrderedDict(state),
            "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]},
            "lr_scheduler": {"base_lrs": [1e-4], "lr_lambdas": [None]},
        },
        "pickles": {"global_step": dill.dumps(3), "_output_dir": dill.dumps("outputs")},
    }
    if harm is not None:
        content["hook"] = TouchesAFile(harm)
        content["pickles"]["epoch"] = dill.dumps(TouchesAFile(harm))
        content["state_dicts"]["ema_model"]["model.hook"] = TouchesAFile(harm)
        content["cfg"].task.hook = None
        content["cfg"].task._content["hook"] = TouchesAFile(harm)
    torch.save(content, path, **options)
    return path


class TestReading:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older layout"])
    @pytest.mark.parametrize("module", ["pickle", "dill"])
    def test_nothing_in_a_file_is_run(self, tmp_path: Path, module: str, zipped: bool) -> None:
        state, harm = files.state_of(official.PUSHT), tmp_path / "harm"
        pickler = {"pickle_module": pytest.importorskip("dill")} if module == "dill" else {}
        path = published(tmp_path / "x.ckpt", state, harm, _use_new_zipfile_serialization=zipped, **pickler)
        read = read_checkpoint(path)
        imported = UvaImporter().convert(read)
        ensure_complete(imported, "x.ckpt")
        assert not harm.exists()
        assert {"omegaconf.dictconfig.DictConfig", "omegaconf.base.ContainerMetadata"} <= set(read.inert)
        assert read_checkpoint(path, trust=True).inert == () and harm.exists()

    def test_what_the_file_names_need_not_be_installed(self, tmp_path: Path) -> None:
        path = published(tmp_path / "x.ckpt", files.state_of(official.PUSHT) | files.PUSHT_SCALING)
        code = f"""
import sys
from pathlib import Path
sys.modules["dill"] = sys.modules["omegaconf"] = None
from videopolicy.importing.reading import read_checkpoint
from videopolicy.errors import WeightsError
read = read_checkpoint(Path({str(path)!r}))
print(len(read.tensors("state_dicts", "ema_model")), sorted(read.content["pickles"]))
try:
    read_checkpoint(Path({str(path)!r}), trust=True)
except WeightsError as error:
    print(error.message)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        first, second = done.stdout.splitlines()
        assert first == f"{len(files.state_of(official.PUSHT) | files.PUSHT_SCALING)} ['_output_dir', 'global_step']"
        assert "names code that is not installed" in second and "omegaconf" in second


class TestScaling:
    """The official numbers: ``x * scale + offset``, and back ``(x - offset) / scale``."""

    @pytest.mark.parametrize(
        ("variant", "scaling", "modes", "kept"),
        [
            ("PUSHT", "PUSHT_SCALING", {"actions": "minmax", "state": "minmax"}, None),
            ("LIBERO", "ARM_SCALING", {"actions": "minmax"}, "3 to 9"),
            ("TOOLHANG", "TOOLHANG_SCALING", {"actions": "minmax", "state": "minmax"}, "3 to 9"),
            ("UMI", None, {"actions": "identity", "state": "identity"}, None),
        ],
    )
    def test_is_that_of_the_checkpoint(
        self, variant: str, scaling: str | None, modes: dict[str, str], kept: str | None
    ) -> None:
        variant, scaling = getattr(official, variant), getattr(files, scaling) if scaling else {}
        imported = UvaImporter().convert(files.checkpoint_of(files.state_of(variant) | scaling))
        ensure_complete(imported, "latest.ckpt")
        assert imported.normalization == modes
        said = " ".join(imported.not_carried)
        assert (f"left as they are ({kept})" in said) if kept else "left as they are" not in said
        normalizer = Normalizer(Normalization.model_validate(modes), imported.statistics)
        fields = {"action": (normalizer.action_shift, normalizer.action_scale)}
        if "state" in modes:
            fields["state"] = (normalizer.state_shift, normalizer.state_scale)
        for name, (shift, size) in fields.items():
            scale, offset = self.official(scaling, name, len(shift))
            generator = torch.Generator().manual_seed(1)
            seen = torch.rand(64, len(shift), generator=generator) * 3 - 1
            physical = (seen - offset) / scale
            torch.testing.assert_close(seen * size + shift, physical, rtol=2e-6, atol=1e-6)
            torch.testing.assert_close((physical - shift) / size, physical * scale + offset, rtol=2e-6, atol=2e-6)

    def official(self, scaling: dict[str, Tensor], name: str, width: int) -> tuple[Tensor, Tensor]:
        """Scale and offset as the official model lays them side by side."""
        if not scaling:
            return torch.ones(width), torch.zeros(width)
        orders = {
            "action": ["action"],
            "state": ["agent_pos", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"],
        }
        held = [f"{files.NORMALIZER}{one}" for one in orders[name] if f"{files.NORMALIZER}{one}.scale" in scaling]
        return tuple(torch.cat([scaling[f"{one}.{kind}"] for one in held]) for kind in ("scale", "offset"))

    def test_dimensions_that_do_not_move_are_shifted_only(self) -> None:
        """The official threshold is larger than ours; what it does is taken over all the same."""
        scaling = files.field_of("action", [5.0, 3.0], [5.00002, 9.0], eps=1e-4)
        imported = UvaImporter().convert(files.checkpoint_of(files.state_of(official.PUSHT) | scaling))
        normalizer = Normalizer(Normalization(actions="minmax"), imported.statistics)
        torch.testing.assert_close(normalizer.action_shift, torch.tensor([5.0, 6.0]))
        torch.testing.assert_close(normalizer.action_scale, torch.tensor([1.0, 3.0]))
        assert imported.statistics.actions.mean == pytest.approx([10.00002 / 3, 4.0])

    def test_a_normaliser_that_lacks_something_is_refused(self) -> None:
        scaling = {name: value for name, value in files.PUSHT_SCALING.items() if not name.endswith("action.offset")}
        imported = UvaImporter().convert(files.checkpoint_of(files.state_of(official.PUSHT) | scaling))
        assert imported.missing == ["normalizer.params_dict.action.offset"]


class TestCommand:
    def test_an_imported_policy_acts_as_the_exported_one(self, vpolicy: Any, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text(RECIPE)
        recipe = load_recipe(tmp_path / "recipe.yaml")
        spaces = recipe.benchmark.spaces()
        variant = replace(official.PUSHT, actions=spaces.actions.dim)
        policy = randomised(build_learner(recipe, "policy", 1))
        scaling = files.field_of(
            "action", [12.0, 25.0, -1.0, 0.0][: variant.actions], [511.0, 50.0, 1.0, 9.0][: variant.actions]
        )
        published(tmp_path / "x.ckpt", exported(policy, variant) | scaling)
        arguments = ("import", "uva", "x.ckpt", "heads=[2,2]", "-o", "weights", "--quiet")
        code, said = vpolicy(*arguments)
        assert code == 0, said
        for text in (
            "a recipe needs policy.joint.transformer: {decoder_depth: 1, decoder_heads: null, decoder_width: 16",
            "a recipe needs policy.action: {aggregation: conv_fc, horizon: 16, type: uva-action}",
            "a recipe needs normalization: {actions: minmax}",
            "scaling of actions and state: from the checkpoint",
            "weights without averaging (model)",
            "train: [{name: imported, init_from: weights, steps: 0}]",
        ):
            assert text in said
        code, said = vpolicy(*arguments, "--force", "--recipe", "recipe.yaml")
        assert code == 0 and "names, shapes and options: those of recipe recipe" in said, said
        facts = json.loads((tmp_path / "weights/import.json").read_text())
        assert facts["scaling"] == "the checkpoint" and facts["normalization"] == {"actions": "minmax"}

        store = Store(tmp_path / "home")
        planned = plan(recipe, None, store)
        train(Session(recipe, store, torch.device("cpu"), Reporter(quiet=True)), planned[0], None)
        other, normalizer = load_policy(recipe, planned)
        assert normalizer.action_scale.tolist() == pytest.approx([249.5, 12.5, 1.0, 4.5][: variant.actions])
        observation = toy_observation(spaces, recipe.policy.window(), batch_size=1)
        normalizer.observation(observation)  # there is a state, of which the checkpoint says nothing
        chunks = [one.eval().act(observation, RowGenerator.from_seeds([0])) for one in (policy, other)]
        assert torch.equal(*chunks) and chunks[0].abs().max() > 0

    def test_recipes_that_do_not_fit_are_told_what_they_need(self, vpolicy: Any, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text(RECIPE.replace("{actions: minmax", "{actions: standard"))
        actions = load_recipe(tmp_path / "recipe.yaml").benchmark.spaces().actions.dim
        variant = replace(official.LIBERO, actions=actions)
        published(
            tmp_path / "x.ckpt", files.state_of(variant) | files.field_of("action", [0.0] * actions, [4.0] * actions)
        )
        code, said = vpolicy("import", "uva", "x.ckpt", "heads=[4,2]", "-o", "weights", "--recipe", "recipe.yaml")
        assert code == 2 and not (tmp_path / "weights").exists()
        for text in (
            "joint.text.type is None in the recipe and must be 'clip-text'",
            "joint.transformer.heads is 2 in the recipe and must be 4",
            "normalization.actions is 'standard' in the recipe and must be 'minmax'",
        ):
            assert text in said


class TestUvaImporter(ImporterContract):
    @pytest.fixture
    def component(self) -> UvaImporter:
        return UvaImporter()

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        return files.checkpoint_of(files.state_of(official.UMI) | files.ARM_SCALING)

    @pytest.fixture
    def keys(self) -> tuple[str, ...]:
        return ("state_dicts", "ema_model")
