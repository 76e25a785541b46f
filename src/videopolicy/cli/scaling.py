"""The options that choose where work is done, for every verb that has them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class ExecutorName(StrEnum):
    """Where units of work are carried out."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


ExecutorOption = Annotated[
    ExecutorName, typer.Option(help="Where stages are trained and episodes run: here, or on a cluster.")
]
ShardsOption = Annotated[
    int | None,
    typer.Option(min=1, help="ray, slurm: cut an evaluation into at least so many units.", show_default=False),
]
AddressOption = Annotated[
    str | None, typer.Option(help="ray: head of the cluster, such as 10.0.0.1:6379.", show_default=False)
]
GpusOption = Annotated[float, typer.Option("--gpus-per-unit", min=0, help="ray, slurm: GPUs of every unit.")]
PartitionOption = Annotated[str | None, typer.Option(help="slurm: its partition.", show_default=False)]
HoursOption = Annotated[float, typer.Option(min=0.01, help="slurm: time limit of every unit.")]
