"""A stage that is killed and started again ends with the weights of one that was not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkpoints import save_after_every_step
from regression import KilledError, Lines, Regression, statistics

from videopolicy import Batch, VpolicyError
from videopolicy.console.progress import Activity, Reporter
from videopolicy.recipes.recipe import Normalization, Stage
from videopolicy.seeds import Order, derived_seed
from videopolicy.training import lightning_loop as training
from videopolicy.training.curves import read_curves
from videopolicy.training.normalization import Normalizer


def train(folder: Path, killed_after: int | None = None, **options) -> Regression:
    learner = Regression()
    if killed_after is not None:
        original, calls = learner.loss, []

        def loss(batch: Batch) -> dict[str, torch.Tensor]:
            calls.append(1)
            if len(calls) > killed_after:
                raise KilledError
            return original(batch)

        learner.loss = loss
    settings = {
        "steps": 60,
        "batch_size": 16,
        "optimizer": {"learning_rate": 1e-2},
        "schedule": {"type": "cosine", "warmup_steps": 5},
        "gradient_clip": 1.0,
    }
    stage = Stage(name="lines", **{**settings, **options})
    folder.mkdir(exist_ok=True)
    normalizer = Normalizer(Normalization(), statistics())
    learner.taken = training.train_stage(learner, normalizer, Lines(), stage, 0, folder, Reporter(quiet=True))
    return learner


def weights(learner: Regression) -> torch.Tensor:
    return torch.cat([value.flatten() for value in learner.network.parameters()])


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"accumulate": 2}], ids=["plain", "ema", "accumulate"])
def test_killed_stage_ends_with_the_same_weights(tmp_path, monkeypatch, options):
    save_after_every_step(monkeypatch)
    whole = train(tmp_path / "whole", **options)
    for killed_after in (17, 23):
        with pytest.raises(KilledError):
            train(tmp_path / "killed", killed_after, **options)
    resumed = train(tmp_path / "killed", **options)
    assert torch.equal(weights(whole), weights(resumed))
    assert read_curves(tmp_path / "whole") == read_curves(tmp_path / "killed")


def test_loss_falls_and_loader_processes_change_nothing(tmp_path):
    one = train(tmp_path / "one")
    two = train(tmp_path / "two", data_workers=2)
    losses = [value for _, value in read_curves(tmp_path / "one")["loss/action"]]
    assert losses[-1] < 0.2 * losses[0]
    assert torch.equal(weights(one), weights(two))


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path):
    with pytest.raises(VpolicyError, match=r"diverged at step \d+: action is (nan|inf)") as caught:
        train(tmp_path, optimizer={"learning_rate": 1e30}, gradient_clip=None, schedule={})
    assert "learning_rate" in caught.value.hint


@pytest.mark.parametrize("steps", [24, 6], ids=["while training", "at its end"])
def test_where_losses_are_looked_at_later_the_step_is_named_all_the_same(tmp_path, monkeypatch, steps):
    settings = {"steps": steps, "optimizer": {"learning_rate": 1e30}, "gradient_clip": None, "schedule": {}}
    errors = []
    for folder, behind in (("now", False), ("later", True)):
        monkeypatch.setattr(training, "_runs_behind", lambda device, behind=behind: behind)
        with pytest.raises(VpolicyError, match="diverged at step") as caught:
            train(tmp_path / folder, **settings)
        errors.append(caught.value.message)
    assert errors[0] == errors[1]


def test_checkpoints_leave_frozen_weights_out(tmp_path, monkeypatch):
    save_after_every_step(monkeypatch)
    with pytest.raises(KilledError):
        train(tmp_path, killed_after=3)
    state = torch.load(tmp_path / training.CHECKPOINT, weights_only=True)["state_dict"]
    assert "learner.network.0.weight" in state
    assert not any("frozen" in name for name in state)


def test_time_spent_before_a_kill_counts(tmp_path, monkeypatch):
    save_after_every_step(monkeypatch)
    with pytest.raises(KilledError):
        train(tmp_path, killed_after=3)
    saved = torch.load(tmp_path / training.CHECKPOINT, weights_only=True)
    assert saved["spent"]["processor_seconds"] > 0 and 0 < saved["spent"]["seconds"] < 100
    saved["spent"] = {"seconds": 1000.0, "processor_seconds": 2000.0}
    torch.save(saved, tmp_path / training.CHECKPOINT)
    spent = train(tmp_path).taken.spent
    assert 1000 < spent["seconds"] < 1100 and 2000 < spent["processor_seconds"] < 2100


def test_checkpoints_that_take_long_are_written_rarely(tmp_path, monkeypatch):
    clock, saves = [0.0], []
    monkeypatch.setattr("videopolicy.training.SECONDS_BETWEEN_CHECKPOINTS", 2.0)
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    watch = training._Watch(tmp_path, Activity(Reporter(quiet=True), "train", 0, 0))

    def save(path):
        path.write_bytes(b"")
        saves.append(clock[0])
        clock[0] += 0.5

    trainer = SimpleNamespace(
        world_size=1,
        is_global_zero=True,
        lightning_module=SimpleNamespace(ensure_finite=lambda: None),
        save_checkpoint=save,
    )
    while clock[0] < 100:
        if watch._is_time(trainer):
            watch.save(trainer)
        clock[0] += 0.25
    assert saves[:3] == [2.25, 28.0, 53.75]  # after 2 s, then every 0.5 / 0.02
    assert 0.5 * len(saves) / clock[0] <= 0.02


def test_order_visits_every_window_once_an_epoch():
    order = Order(10, 4, seed=1)
    first_two_epochs = [index for step in range(5) for index in order.indices(step)]
    assert sorted(first_two_epochs[:10]) == list(range(10)) == sorted(first_two_epochs[10:])
    assert first_two_epochs[:10] != first_two_epochs[10:]
    assert Order(10, 4, seed=1).indices(3) == order.indices(3)
    assert Order(10, 4, seed=2).indices(3) != order.indices(3)


def test_derived_seeds_do_not_run_into_each_other():
    assert derived_seed(1, "23") != derived_seed("12", 3)
    assert 0 <= derived_seed("x") < 2**63
