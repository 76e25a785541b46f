"""Training curves as the stages have logged them."""

from __future__ import annotations

import csv
import math
from pathlib import Path


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Training curves of a stage, put together from its uninterrupted pieces.

    Returns:
        Per metric rows of step and value.
    """
    pieces = sorted((folder / "curves").glob("from-*/metrics.csv"))
    starts = [int(piece.parent.name.removeprefix("from-")) for piece in pieces]
    curves: dict[str, list[tuple[int, float]]] = {}
    for piece, end in zip(pieces, [*starts, math.inf][1:], strict=True):
        with piece.open(newline="", encoding="utf-8", errors="replace") as handle:
            for row in csv.DictReader(handle):
                step = int(row["step"])
                if step >= end:
                    continue
                for name, value in row.items():
                    if name not in ("step", "epoch") and value:
                        curves.setdefault(name, []).append((step, float(value)))
    return curves
