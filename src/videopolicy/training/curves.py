"""Training curves as the stages have logged them."""

from __future__ import annotations

import csv
import math
from contextlib import suppress
from pathlib import Path


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Training curves of a stage, put together from its uninterrupted pieces.

    Rows that a crash has damaged are left out: a curve is looked at, and nothing is computed from it.

    Returns:
        Per metric rows of step and value.
    """
    pieces = [piece for piece in sorted((folder / "curves").glob("from-*/metrics.csv")) if piece.is_file()]
    starts = [int(piece.parent.name.removeprefix("from-")) for piece in pieces]
    curves: dict[str, list[tuple[int, float]]] = {}
    for piece, end in zip(pieces, [*starts, math.inf][1:], strict=True):
        with piece.open(newline="", encoding="utf-8", errors="replace") as handle:
            for row in csv.DictReader(line.replace("\0", "") for line in handle):
                with suppress(ValueError, TypeError, KeyError):
                    step = int(row.pop("step"))
                    values = {name: float(value) for name, value in row.items() if name != "epoch" and value}
                    for name, value in values.items() if step < end else ():
                        curves.setdefault(name, []).append((step, value))
    return curves
