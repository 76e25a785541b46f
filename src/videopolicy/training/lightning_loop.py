"""Trains one stage with Lightning, which this module, ``averaging``, ``processes``, ``saving`` and ``sharding`` import.

A stage can be killed at any moment. Its checkpoint holds weights, optimiser and step; the data order and all
random draws are functions of the seed and the step, so a resumed stage ends with the weights of an
uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from videopolicy import training
from videopolicy.console.monitor import Clock
from videopolicy.console.progress import Activity, Reporter
from videopolicy.contracts.dataset import DrawnWindows, Windows
from videopolicy.contracts.learner import Learner
from videopolicy.errors import VpolicyError
from videopolicy.recipes.recipe import Stage
from videopolicy.seeds import Order, StepOrder, derived_seed
from videopolicy.storage.integrity import CHECKPOINT
from videopolicy.training.averaging import Averaging
from videopolicy.training.curves import read_curves
from videopolicy.training.distributed import launch
from videopolicy.training.loading import Parcel, Steps, failure_of_loading, loader, too_little, workers_for
from videopolicy.training.loggers import loggers_for
from videopolicy.training.normalization import Normalizer
from videopolicy.training.optimization import learning_rate_factor, make_optimizer
from videopolicy.training.processes import environment, quieten
from videopolicy.training.remarks import Remarks, note_what_differs
from videopolicy.training.saving import WriteBehind
from videopolicy.training.sharding import Sharded, gathered, give_back, local, shard, strategy_for
from videopolicy.training.validation import Validation
from videopolicy.types import Batch

LOG_EVERY_STEPS = 10
LOWEST_SCALE = 2.0**-20
"""Of gradients in 16-mixed, which begins at 2^16."""


@dataclass
class Trained:
    """What training one stage took.

    Args:
        spent: From its `Clock`, the processes that were killed on the way included, up to their last checkpoints.
        final_losses: Means over the last tenth of its steps.
        accelerator: Whether it ran on one.
        precision: The numerical precision, several if it was continued in another one.
        remarks: What was done otherwise than the recipe says, in sentences.
        weights: What it ended with, by the learner's names, where processes hold shares of them; in the first one only.
    """

    spent: dict[str, float]
    final_losses: dict[str, float]
    accelerator: bool
    precision: str
    remarks: tuple[str, ...]
    weights: dict[str, Tensor] | None = None


class _Module(LightningModule):
    def __init__(
        self,
        learner: Learner,
        normalizer: Normalizer,
        windows: Windows,
        stage: Stage,
        seed: int,
        first: int,
        clock: Clock,
        remarks: Remarks,
        precisions: list[str],
    ) -> None:
        super().__init__()
        self._clock, self._remarks, self._precisions = clock, remarks, precisions
        self.learner, self.normalizer = learner, normalizer
        self._windows, self._stage, self._seed, self._first = windows, stage, seed, first
        self.batches_seen, self.data_workers = 0, 0
        self._unchecked: list[tuple[int, dict[str, Tensor]]] = []
        """Steps whose losses may not be finite."""
        self.whole: dict[str, Tensor] | None = None
        """Weights after the last step, where processes hold shares of them."""

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, Sharded):
            shard(self.learner, self.trainer.strategy.mesh)

    def on_train_end(self) -> None:  # behind the callbacks': the average has taken the place of the weights
        if isinstance(self.trainer.strategy, Sharded):
            self.whole = gathered(self.learner.state_dict())

    def train_dataloader(self) -> DataLoader:
        """Asked for when all processes are there: before that, none but the first knows which one it is."""
        stage, ranks = self._stage, self.trainer.world_size
        batch, windows = stage.batch_size * ranks, self._windows
        order: StepOrder = Order(len(windows), batch, self._seed)
        if isinstance(windows, DrawnWindows):
            order = windows.order(batch, self._seed)
        first, last = self._first * stage.accumulate, stage.steps * stage.accumulate
        steps = Steps(windows, order, first, last, self.trainer.global_rank, ranks)
        here = len(self.trainer.device_ids)
        self.data_workers = workers_for(stage.data_workers, self.device, here)
        return loader(steps, self.data_workers, pinned=self.device.type == "cuda")

    def on_before_batch_transfer(self, batch: Batch | Parcel, dataloader_idx: int) -> Batch:
        if not isinstance(batch, Parcel):
            return batch
        if not batch.shared:
            self._remarks.add(too_little())
        return batch.batch()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        torch.manual_seed(derived_seed(self._seed, "draws", self.batches_seen, self.global_rank))
        self.batches_seen += 1
        losses = self.learner.loss(self.normalizer.batch(batch))
        found = {name: value.detach() for name, value in losses.items()}
        self._unchecked.append((self.global_step, found))
        if not _runs_behind(self.device) or len(self._unchecked) == LOG_EVERY_STEPS:
            self._ensure_finite_losses()
        self.log_dict({f"loss/{name}": value for name, value in found.items()}, batch_size=len(batch))
        return torch.stack(list(losses.values())).sum()

    def _ensure_finite_losses(self) -> None:
        unchecked, self._unchecked = self._unchecked, []
        sums = torch.stack([torch.stack(list(losses.values())).sum() for _, losses in unchecked])
        for (step, losses), finite in zip(unchecked, sums.isfinite().tolist(), strict=True):
            if not finite:
                raise self.diverged(", ".join(f"{name} is {value.item()}" for name, value in losses.items()), step)

    def ensure_finite(self) -> None:
        """Check the weights, before they take the place of those of an earlier step.

        A step whose loss is finite can have a gradient that is not; only the next step's loss would show it.

        Raises:
            VpolicyError: Some are not finite, or losses of the last steps are not.
        """
        if self._unchecked:
            self._ensure_finite_losses()
        trained = [(name, one) for name, one in self.learner.named_parameters() if one.requires_grad]
        finite = torch.stack([local(one).isfinite().all() for _, one in trained]) if trained else torch.ones(0)
        if isinstance(self.trainer.strategy, Sharded):  # of which all processes have a part
            finite = self.trainer.strategy.reduce(finite.int(), reduce_op="min")
        if bad := [name for (name, _), good in zip(trained, finite.tolist(), strict=True) if not good]:
            raise self.diverged(f"{len(bad)} of {len(trained)} weights are not finite, the first is {bad[0]}")

    def diverged(self, what: str, step: int | None = None) -> VpolicyError:
        """What ends training instead of weights that are no numbers; the last checkpoint stays as it is."""
        name, step = self._stage.name, self.global_step if step is None else step
        half = f", or train.{name}.precision=32-true" if self._precisions[-1] != "32-true" else ""
        hint = f"Lower train.{name}.optimizer.learning_rate, set train.{name}.gradient_clip{half}."
        if step == 0:
            hint = (
                f"Nothing was learned yet: look for NaN in the data (vpolicy data info) and in initial weights{half}."
            )
        return VpolicyError(f"Stage '{name}' diverged at step {step}: {what}", hint)

    def configure_optimizers(self) -> Any:
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = make_optimizer(self.learner, self._stage.optimizer, fused=not scaled)
        factor = learning_rate_factor(self._stage.schedule, self._stage.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen
        checkpoint["spent"] = self._clock.spent()
        checkpoint["remarks"], checkpoint["precisions"] = self._remarks.all, self._precisions
        # Frozen weights come from where they came from the first time.
        frozen = {f"learner.{name}" for name, value in self.learner.named_parameters() if not value.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = checkpoint["batches_seen"]
        own = self.state_dict()
        checkpoint["state_dict"] = {**own, **checkpoint["state_dict"]}


class _Watch(Callback):
    """Shows progress, validates, and saves checkpoints, each of them complete before it replaces the last one.

    A checkpoint is due the more rarely the longer training has waited for the last one: for it to be copied, and for
    the one before it to be written.
    """

    def __init__(self, folder: Path, progress: Activity, validation: Validation | None = None) -> None:
        self.folder, self.progress, self.validation = folder, progress, validation
        self._saved_at, self._took = time.monotonic(), 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.global_step:
            self._validate(trainer)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        stepped = trainer.global_step - self.progress.done
        if stepped:
            text = ""
            if trainer.global_step % LOG_EVERY_STEPS == 0:
                losses = [
                    f"{k.removeprefix('loss/')} {v:.3f}" for k, v in trainer.logged_metrics.items() if "loss/" in k
                ]
                text = ", ".join(losses)
            self.progress.advance(stepped, text)
        if stepped and trainer.global_step % LOG_EVERY_STEPS == 0:
            self._ensure_it_moves(trainer)
        if stepped:
            self._validate(trainer)
        if stepped and self._is_time(trainer):
            self.save(trainer)

    def _validate(self, trainer: Trainer) -> None:
        """Add the losses on windows that stay the same to the curves, where that is due. The first process writes, but
        all of them take part: each may hold a share of the weights."""
        if self.validation and self.validation.is_due(trainer.global_step):
            with trainer.precision_plugin.forward_context():
                found = self.validation.losses(trainer.strategy.root_device)
            give_back(trainer.lightning_module.learner)
            for logger in trainer.loggers:
                logger.log_metrics(found, trainer.global_step)

    def _ensure_it_moves(self, trainer: Trainer) -> None:
        """In 16-mixed, steps whose gradients overflow are left out, and the next one's are scaled by half.

        Raises:
            VpolicyError: That has happened so often that hardly any step was made.
        """
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and (scale := scaler.get_scale()) < LOWEST_SCALE:
            what = f"gradients are not finite even when they are scaled by {scale:.1e}; steps are left out"
            raise trainer.lightning_module.diverged(what)

    def _is_time(self, trainer: Trainer) -> bool:
        """Saving takes all processes, so they must agree, which they do not ask each other at every step.

        Where a checkpoint is large it is saved more rarely, so that saving takes a small part of the time.
        """
        pause = max(training.SECONDS_BETWEEN_CHECKPOINTS, self._took / training.SHARE_OF_SAVING)
        due = time.monotonic() - self._saved_at > pause
        if trainer.world_size == 1:
            return due
        if trainer.global_step % LOG_EVERY_STEPS:
            return False
        return bool(trainer.strategy.reduce_boolean_decision(due, all=False))

    def save(self, trainer: Trainer) -> None:
        began = time.monotonic()
        trainer.lightning_module.ensure_finite()
        trainer.save_checkpoint(self.folder / CHECKPOINT)  # the first process writes, but all of them take part
        self._saved_at = time.monotonic()
        self._took = self._saved_at - began


def train_stage(
    learner: Learner,
    normalizer: Normalizer,
    windows: Windows,
    stage: Stage,
    seed: int,
    folder: Path,
    reporter: Reporter,
    tracking: tuple[str, ...] = (),
    accelerator: str = "auto",
    measured: Mapping[str, Windows] | None = None,
) -> Trained:
    """Train a learner in place, from its checkpoint in ``folder`` where there is one.

    Args:
        learner: What is trained.
        normalizer: Scales every batch.
        windows: Training data.
        stage: Steps, batch, optimiser, precision.
        seed: Of the run.
        folder: For the checkpoint and the curves.
        reporter: Shows progress.
        tracking: Further loggers, as in a recipe.
        accelerator: Lightning's name of the device.
        measured: Windows of the validation, by what they are called in the curves.

    Raises:
        VpolicyError: A loss is not finite.
        StorageError: The folder cannot be written.
    """
    quieten()
    checkpoint = _newest(folder)
    before = checkpoint or {}
    first = before.get("global_step", 0)
    clock = Clock(before.get("spent"))
    remarks = Remarks(stage.name, reporter, before.get("remarks", []))
    precisions: list[str] = list(before.get("precisions", []))
    stage_seed = derived_seed(seed, stage.name)
    module = _Module(learner, normalizer, windows, stage, stage_seed, first, clock, remarks, precisions)
    with reporter.activity(f"train {stage.name}", stage.steps, first) as progress:
        every, rows = stage.validate_every, stage.batch_size
        validation = Validation(learner, normalizer, measured or {}, rows, every, stage_seed) if every else None
        watch = _Watch(folder, progress, validation)
        callbacks: list[Callback] = [watch]
        if stage.ema_decay is not None:
            # Before the watch, which saves checkpoints: they must hold the average as it is after the step.
            callbacks.insert(0, Averaging(learner, stage.ema_decay, stage.ema_warmup))
        trainer = _trainer(stage, learner, accelerator, callbacks, loggers_for(folder, first, tracking), folder)
        used, device = str(trainer.precision), trainer.strategy.root_device.type
        note_what_differs(remarks, stage, len(windows), precisions, used, device)
        learner.train()
        try:
            trainer.fit(module, ckpt_path=folder / CHECKPOINT if checkpoint else None, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
        except (RuntimeError, OSError) as error:
            if (found := failure_of_loading(error, module.data_workers)) is not None:
                raise found from error
            raise
        module.ensure_finite()
        learner.eval()
    losses = read_curves(folder)
    tail = {name: [v for s, v in rows if s >= stage.steps * 0.9] for name, rows in losses.items()}
    return Trained(
        clock.spent(),
        {name.removeprefix("loss/"): sum(v) / len(v) for name, v in tail.items() if v and name.startswith("loss/")},
        trainer.strategy.root_device.type != "cpu",
        ", ".join(precisions),
        tuple(remarks.all),
        module.whole,
    )


def _runs_behind(device: torch.device) -> bool:
    """Whether what is asked of a device has to be waited for, so that it is asked about several steps at a time."""
    return device.type != "cpu"


def _trainer(
    stage: Stage, learner: Learner, accelerator: str, callbacks: list[Callback], loggers: list[Logger], folder: Path
) -> Trainer:
    started = launch()
    rank_zero_only.rank = started.rank
    here = min(stage.devices, started.per_node) if started.processes > 1 else stage.devices
    strategy = strategy_for(stage, learner)
    try:
        return Trainer(
            accelerator=accelerator,
            devices=here,
            num_nodes=stage.devices // here,
            strategy=strategy,
            precision=stage.precision,
            plugins=[environment(stage), WriteBehind(copies=not isinstance(strategy, Sharded))],
            default_root_dir=folder,
            max_steps=stage.steps,
            max_epochs=-1,
            accumulate_grad_batches=stage.accumulate,
            gradient_clip_val=stage.gradient_clip,
            callbacks=callbacks,
            logger=loggers,
            log_every_n_steps=LOG_EVERY_STEPS,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise VpolicyError(
            f"Stage '{stage.name}' cannot be trained on {stage.devices} devices: {str(error).strip().splitlines()[0]}",
            f"Set train.{stage.name}.devices to what this machine has.",
        ) from error


def _newest(folder: Path) -> dict[str, Any] | None:
    path = folder / CHECKPOINT
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True) if path.exists() else None
