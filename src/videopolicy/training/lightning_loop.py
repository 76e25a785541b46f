"""Trains one stage with Lightning: the only module that imports it.

A stage can be killed at any moment. Its checkpoint holds weights, optimiser and step; the data order and all
random draws are functions of the seed and the step, so a resumed stage ends with the weights of an
uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from videopolicy import training
from videopolicy.console.monitor import Clock
from videopolicy.console.progress import Activity, Reporter
from videopolicy.contracts.dataset import Windows
from videopolicy.contracts.learner import Learner
from videopolicy.errors import VpolicyError
from videopolicy.recipes.recipe import Schedule, Stage
from videopolicy.seeds import Order, derived_seed
from videopolicy.storage.files import storage_errors, written_whole
from videopolicy.training.curves import read_curves
from videopolicy.training.distributed import processes_per_node, started_processes
from videopolicy.training.normalization import Normalizer
from videopolicy.training.optimization import make_optimizer
from videopolicy.types import Batch

CHECKPOINT = "checkpoint.ckpt"
LOG_EVERY_STEPS = 10


@dataclass
class Trained:
    """What training one stage took.

    Args:
        spent: From its `Clock`, the processes that were killed on the way included, up to their last checkpoints.
        final_losses: Means over the last tenth of its steps.
        accelerator: Whether it ran on one.
    """

    spent: dict[str, float]
    final_losses: dict[str, float]
    accelerator: bool


class _Steps(IterableDataset):
    """Batches from a given step on; loader processes take turns."""

    def __init__(self, windows: Windows, order: Order, first: int, last: int, rank: int, ranks: int) -> None:
        self.windows, self.order = windows, order
        self.first, self.last, self.rank, self.ranks = first, last, rank, ranks

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.first + offset, self.last, stride):
            indices = self.order.indices(step)
            share = len(indices) // self.ranks
            yield self.windows.batch(indices[self.rank * share : (self.rank + 1) * share])


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
    ) -> None:
        super().__init__()
        self._clock = clock
        self.learner, self.normalizer = learner, normalizer
        self._windows, self._stage, self._seed, self._first = windows, stage, seed, first
        self.batches_seen = 0

    def train_dataloader(self) -> DataLoader:
        """Asked for when all processes are there: before that, none but the first knows which one it is."""
        stage, ranks = self._stage, self.trainer.world_size
        order = Order(len(self._windows), stage.batch_size * ranks, self._seed)
        first, last = self._first * stage.accumulate, stage.steps * stage.accumulate
        steps = _Steps(self._windows, order, first, last, self.trainer.global_rank, ranks)
        return DataLoader(steps, batch_size=None, num_workers=stage.data_workers)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        torch.manual_seed(derived_seed(self._seed, "draws", self.batches_seen, self.global_rank))
        self.batches_seen += 1
        losses = self.learner.loss(self.normalizer.batch(batch))
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise VpolicyError(
                f"Stage '{self._stage.name}' diverged at step {self.global_step}: "
                + ", ".join(f"{name} is {value.item()}" for name, value in losses.items()),
                "Lower train.optimizer.learning_rate, or set train.gradient_clip.",
            )
        self.log_dict({f"loss/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch))
        return total

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.learner, self._stage.optimizer)
        factor = _learning_rate_factor(self._stage.schedule, self._stage.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen
        checkpoint["spent"] = self._clock.spent()
        # Frozen weights come from where they came from the first time.
        frozen = {f"learner.{name}" for name, value in self.learner.named_parameters() if not value.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = checkpoint["batches_seen"]
        own = self.state_dict()
        checkpoint["state_dict"] = {**own, **checkpoint["state_dict"]}


def _average(decay: float, warmup: float | None) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """How the average of the weights moves after the first update, which copies them.

    With a warm-up the n-th update from then on has the decay ``1 - n ** -warmup``: the first copies once more, as in
    the ``ema_model.py`` that published codes share.
    """

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        if warmup is None:
            return averaged.lerp(current, 1 - decay)
        # On the device that counts the updates: this is asked for every parameter, and reading the count would wait.
        share = torch.as_tensor(updates, device=averaged.device).double() ** -warmup
        return averaged.lerp(current, share.clamp(min=1 - decay).to(averaged.dtype))

    return average


def _learning_rate_factor(schedule: Schedule, steps: int) -> Any:
    def factor(step: int) -> float:
        if step < schedule.warmup_steps:
            return (step + 1) / schedule.warmup_steps
        if schedule.type == "constant":
            return 1.0
        done = (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps)
        return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


class _Watch(Callback):
    """Shows progress and saves checkpoints, each of them complete before it replaces the last one."""

    def __init__(self, folder: Path, progress: Activity) -> None:
        self.folder, self.progress = folder, progress
        self._saved_at = time.monotonic()

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
        if stepped and self._is_time(trainer):
            self.save(trainer)

    def _is_time(self, trainer: Trainer) -> bool:
        """Saving takes all processes, so they must agree, which they do not ask each other at every step."""
        due = time.monotonic() - self._saved_at > training.SECONDS_BETWEEN_CHECKPOINTS
        if trainer.world_size == 1:
            return due
        if trainer.global_step % LOG_EVERY_STEPS:
            return False
        return bool(trainer.strategy.reduce_boolean_decision(due, all=False))

    def save(self, trainer: Trainer) -> None:
        path = self.folder / CHECKPOINT
        if trainer.is_global_zero:
            with written_whole(path) as part:
                trainer.save_checkpoint(part)
        else:
            trainer.save_checkpoint(path)  # only the first process writes, but all of them take part
        self._saved_at = time.monotonic()


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
        tracking: Further loggers, ``tensorboard`` or ``wandb``.
        accelerator: Lightning's name of the device.

    Raises:
        VpolicyError: A loss is not finite.
        StorageError: The folder cannot be written.
    """
    _quieten()
    checkpoint = _newest(folder)
    first = checkpoint["global_step"] if checkpoint else 0
    clock = Clock(checkpoint.get("spent") if checkpoint else None)
    stage_seed = derived_seed(seed, stage.name)
    module = _Module(learner, normalizer, windows, stage, stage_seed, first, clock)
    with reporter.activity(f"train {stage.name}", stage.steps, first) as progress:
        watch = _Watch(folder, progress)
        callbacks: list[Callback] = [watch]
        if stage.ema_decay is not None:
            # Before the watch, which saves checkpoints: they must hold the average as it is after the step.
            callbacks.insert(0, WeightAveraging(avg_fn=_average(stage.ema_decay, stage.ema_warmup)))
        trainer = _trainer(stage, accelerator, callbacks, _loggers(folder, first, tracking))
        learner.train()
        try:
            trainer.fit(module, ckpt_path=folder / CHECKPOINT if checkpoint else None, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
        learner.eval()
    losses = read_curves(folder)
    tail = {name: [v for s, v in rows if s >= stage.steps * 0.9] for name, rows in losses.items()}
    return Trained(
        clock.spent(),
        {name.removeprefix("loss/"): sum(v) / len(v) for name, v in tail.items() if v and name.startswith("loss/")},
        trainer.strategy.root_device.type != "cpu",
    )


def _trainer(stage: Stage, accelerator: str, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    here = min(stage.devices, processes_per_node()) if started_processes() > 1 else stage.devices
    # Methods train parts of a model in turns, so that not every parameter has a gradient at every step.
    strategy = DDPStrategy(find_unused_parameters=True) if stage.devices > 1 else "auto"
    try:
        return Trainer(
            accelerator=accelerator,
            devices=here,
            num_nodes=stage.devices // here,
            strategy=strategy,
            precision=stage.precision,
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


def _loggers(folder: Path, first: int, tracking: tuple[str, ...]) -> list[Logger]:
    with storage_errors(folder):
        # A resumed stage writes a file of its own, since the logger starts its file anew.
        loggers: list[Logger] = [
            CSVLogger(folder, name="curves", version=f"from-{first:09d}", flush_logs_every_n_steps=50)
        ]
        if "tensorboard" in tracking:
            loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
        if "wandb" in tracking:
            try:
                loggers.append(WandbLogger(project="videopolicy", name=folder.name, save_dir=folder))
            except ModuleNotFoundError:
                raise VpolicyError(
                    "The recipe tracks with wandb, which is not installed.",
                    "Install videopolicy[wandb], or take wandb out of `tracking`.",
                ) from None
    return loggers


def _quieten() -> None:
    """Keep what Lightning says about itself out of our output; its real errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*num_workers.*|.*does not have many workers.*")
