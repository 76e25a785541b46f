"""Where training curves go: files beside the weights, TensorBoard, and services of other projects."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from videopolicy.storage.files import storage_errors
from videopolicy.training.tracking import PROJECT, not_installed


def loggers_for(folder: Path, first: int, tracking: tuple[str, ...]) -> list[Logger]:
    """The loggers of a stage.

    Args:
        folder: Of the stage.
        first: Step at which it begins or goes on.
        tracking: Further loggers, as in a recipe.

    Raises:
        VpolicyError: One of them is not installed.
        StorageError: The folder cannot be written.
    """
    with storage_errors(folder):
        # A resumed stage writes a file of its own, since the logger starts its file again.
        loggers: list[Logger] = [
            CSVLogger(folder, name="curves", version=f"from-{first:09d}", flush_logs_every_n_steps=50)
        ]
        if "tensorboard" in tracking:
            loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
        if "wandb" in tracking:
            try:
                loggers.append(Wandb(project=PROJECT, name=folder.name, save_dir=folder))
            except ModuleNotFoundError:
                raise not_installed("wandb") from None
        if "trackio" in tracking:
            loggers.append(Trackio(folder.name))
    return loggers


class Wandb(WandbLogger):
    """Lightning's own logger, which leaves its run open: the curves of the next stage would go into it, too."""

    _experiment: Any

    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


class Trackio(Logger):
    """Curves in Trackio's database (``trackio show --project videopolicy``); Lightning has no logger for it.

    Args:
        name: Of the run; one that goes on with a stage goes on with its curves.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._run: Any = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Trackio's own run, begun on first use.

        Raises:
            VpolicyError: Trackio is not installed.
        """
        if self._run is None:
            try:
                import trackio
            except ModuleNotFoundError:
                raise not_installed("trackio") from None
            with _quiet():
                self._run = trackio.init(
                    PROJECT, self._name, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False
                )
        return self._run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *arguments: Any, **options: Any) -> None:
        """Nothing: what a stage is made of stands in its folder."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._run is not None:
            import trackio

            with _quiet():
                trackio.finish()  # a run that is finished by itself is finished again, aloud, when Python ends
            self._run = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a library from printing where our own progress stands."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
