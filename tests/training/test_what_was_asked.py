"""What was asked of a stage is what is done, or it is said and recorded what was done instead."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import torch
import toy_recipes
from checkpoints import save_after_every_step
from command import vpolicy
from lightning.pytorch.plugins.precision import MixedPrecision
from regression import KilledError, Lines, Regression, statistics
from rich.console import Console
from torch import nn

from videopolicy import Batch, RecipeError, VpolicyError
from videopolicy.console.progress import Reporter
from videopolicy.recipes.recipe import Normalization, Stage, load_recipe
from videopolicy.storage.provenance import StageFacts
from videopolicy.training import lightning_loop
from videopolicy.training.lightning_loop import Trained
from videopolicy.training.normalization import Normalizer


def train(folder: Path, learner: nn.Module | None = None, **options) -> tuple[Trained, str]:
    said = io.StringIO()
    stage = Stage(**{"name": "lines", "steps": 6, "batch_size": 4, **options})
    reporter = Reporter(console=Console(file=said, width=400))
    normalizer = Normalizer(Normalization(), statistics())
    folder.mkdir(exist_ok=True)
    trained = lightning_loop.train_stage(
        learner or Regression(), normalizer, Lines(), stage, 0, folder, reporter, accelerator="cpu"
    )
    return trained, said.getvalue()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_a_precision_that_a_processor_has_is_used(tmp_path, precision):
    trained, said = train(tmp_path, precision=precision)
    assert (trained.precision, trained.remarks, said) == (precision, (), "")


def test_half_precision_on_a_processor_is_another_one_and_said(tmp_path):
    trained, said = train(tmp_path / "asked", precision="16-mixed")
    sentence = "16-mixed is not possible on a processor; it trains in bf16-mixed"
    assert trained.precision == "bf16-mixed" and trained.remarks == (sentence,)
    assert said.count(sentence) == 1


class Killed(Regression):
    """Dies in its sixth step."""

    calls = 0

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.calls += 1
        if self.calls == 6:
            raise KilledError
        return super().loss(batch)


def test_a_stage_that_goes_on_in_another_precision_says_both(tmp_path, monkeypatch):
    save_after_every_step(monkeypatch)
    with pytest.raises(KilledError):
        train(tmp_path, Killed())
    trained, _ = train(tmp_path, precision="16-mixed")  # as on a machine whose device has what was asked
    assert trained.precision == "32-true, bf16-mixed"
    assert "began in 32-true, goes on in bf16-mixed" in trained.remarks


class Overflowing(Regression):
    """A finite loss whose gradient is infinite at one step: the root of 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0
        self.root = nn.Parameter(torch.zeros(()))

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.calls += 1
        factor = 1.0 if self.calls == self.at else 0.0
        return {**super().loss(batch), "root": self.root.sqrt() if factor else 0 * self.root}


@pytest.mark.parametrize("at", [3, 6])
def test_weights_that_are_no_numbers_take_no_checkpoints_place(tmp_path, monkeypatch, at):
    """At the last step too, which no further loss would show."""
    save_after_every_step(monkeypatch)
    with pytest.raises(VpolicyError, match=rf"'lines' diverged at step {at}: 1 of 5 weights .* root") as error:
        train(tmp_path, Overflowing(at))
    assert "train.lines.optimizer.learning_rate" in error.value.hint
    kept = torch.load(tmp_path / lightning_loop.CHECKPOINT, weights_only=True)
    assert kept["global_step"] == at - 1 and all(value.isfinite().all() for value in kept["state_dict"].values())


def test_no_number_is_trained_to_without_checkpoints_either(tmp_path):
    with pytest.raises(VpolicyError, match="diverged at step 6"):
        train(tmp_path, Overflowing(6))


class Stuck(Regression):
    """Gradients that are never finite, and half precision whose steps are left out because of that."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.zeros(()))

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {**super().loss(batch), "root": self.root.sqrt()}


def test_half_precision_in_which_no_step_is_made_ends(tmp_path, monkeypatch):
    """With the scaler of an accelerator, which a processor can have too."""

    def scaled(self, *arguments: object, **options: object) -> None:
        original(self, *arguments, **options)
        self.scaler = torch.amp.GradScaler("cpu")

    original = MixedPrecision.__init__
    monkeypatch.setattr(MixedPrecision, "__init__", scaled)
    with pytest.raises(VpolicyError, match=r"diverged at step 40: gradients are not finite even .* left out") as error:
        train(tmp_path, Stuck(), precision="16-mixed", steps=100)
    assert "train.lines.precision=32-true" in error.value.hint


@pytest.mark.parametrize(
    ("options", "variables", "remark"),
    [
        ({"batch_size": 102}, {}, "a batch of 102 has some of the 101 windows several times"),
        (
            {},
            {"CUDA_VISIBLE_DEVICES": "0"},
            r"CUDA_VISIBLE_DEVICES is 0, but torch \S+ can use none; .* on a processor",
        ),
        ({"batch_size": 101}, {"CUDA_VISIBLE_DEVICES": ""}, None),
    ],
)
def test_what_one_would_not_expect_is_said(tmp_path, monkeypatch, options, variables, remark):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trained, said = train(tmp_path, **options)
    assert len(trained.remarks) == (remark is not None)
    assert remark is None or (re.fullmatch(remark, trained.remarks[0]) and trained.remarks[0] in said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_warmup": 0.75}, "ema_warmup: it has no effect without ema_decay"),
        ({"schedule": {"final": 0.1}}, "schedule: final has no effect on a constant learning rate"),
    ],
)
def test_options_without_effect_are_named(tmp_path, options, message):
    (tmp_path / "small.yaml").write_text(toy_recipes.linear("episodes: 0"))
    overrides = [f"train.policy.{name}={json.dumps(value)}" for name, value in options.items()]
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "small.yaml", overrides)


class Holes(Regression):
    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {**super().loss(batch), "video": torch.tensor(torch.nan)}


def test_the_first_loss_of_all_blames_the_data(tmp_path):
    with pytest.raises(VpolicyError, match=r"diverged at step 0: action is [\d.]+, video is nan") as error:
        train(tmp_path, Holes(), precision="bf16-mixed")
    assert "vpolicy data info" in error.value.hint and "train.lines.precision=32-true" in error.value.hint


def test_a_checkpoint_of_slurm_beside_the_recipe_is_not_taken(tmp_path, monkeypatch):
    """Lightning continues from ``hpc_ckpt_*`` in the current folder wherever Slurm's variables are, whosever it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"of another run")
    train(tmp_path / "stage")


def test_records_show_and_later_runs_say_what_was_used(tmp_path):
    recipe = toy_recipes.linear("episodes: 0", tasks="red")
    (tmp_path / "small.yaml").write_text(recipe)
    home = {"VPOLICY_HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    sentence = "16-mixed is not possible on a processor; it trains in bf16-mixed"
    for name in ("one", "two"):
        done = vpolicy(tmp_path, "run", "small.yaml", f"name={name}", "train.policy.precision=16-mixed", **home)
        assert done.returncode == 0 and done.stderr.count(sentence) == 1
        stage = json.loads((tmp_path / "runs" / name / "provenance.json").read_text())["stages"][0]
        facts = StageFacts.model_validate(stage)
        assert (facts.precision, facts.remarks, facts.reused) == ("bf16-mixed", (sentence,), name == "two")
        assert f"policy: {sentence}" in vpolicy(tmp_path, "show", f"runs/{name}", **home).stdout
    assert load_recipe(tmp_path / "runs/two/recipe.yaml").train[0].precision == "16-mixed"
