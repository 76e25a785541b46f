"""``python -m videopolicy.executors.stage_process FILE``: trains one stage on several devices, nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from videopolicy.console.progress import Reporter
from videopolicy.console.text import say
from videopolicy.console.threads import wait_briefly
from videopolicy.errors import VpolicyError
from videopolicy.executors.units import StageUnit, Workplace


def main() -> None:
    """Train the stage that the file describes."""
    wait_briefly()
    fields = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    unit = StageUnit(**{**fields, "workplace": Workplace(**fields["workplace"])})
    try:
        unit.run(Reporter())
    except VpolicyError as error:
        say(error, error=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
