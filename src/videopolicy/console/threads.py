"""How torch's idle threads wait for the next parallel loop."""

from __future__ import annotations

import os

SPINS = 10_000
"""Turns of a waiting loop, some tens of microseconds: longer than the gap between two operations of a small model,
far shorter than a time slice of the operating system."""


def wait_briefly() -> None:
    """Let idle threads spin briefly and then sleep, unless the user has said how they should wait.

    torch's default is to spin for milliseconds. Where anything else runs on the same cores, threads then spin while
    the one that they wait for is not running: small models were measured a hundred times slower. Never spinning costs
    a third of the speed of an idle machine. Must be called before torch is imported (``docs/performance.md``).
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
