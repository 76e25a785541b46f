"""A run killed again and again, with files damaged in between, ends with the records of a run left alone.

``VPOLICY_KILLS`` says how many times; a minute holds about four.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from damage import damage, damageable, remove

KILLS = int(os.environ.get("VPOLICY_KILLS", "0"))


def blamed(said: str, folder: Path) -> set[Path]:
    """What a message names, as a user would take it away: a run, a stage, a data set, or a single file."""
    named = {Path(text) for text in re.findall(rf"{re.escape(str(folder))}[^\s:,;'\"()]+", said)}
    named |= {folder / text for text in re.findall(r"\bruns/[^\s:,;'\"()]+", said)}
    whole = set()
    for path in named:
        inside = path.relative_to(folder).parts
        depth = 2 if inside[0] == "runs" else 3
        whole.add(folder.joinpath(*inside[:depth]))
    return {path for path in whole if path.exists() or path.is_symlink()}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not KILLS, reason="minutes long; VPOLICY_KILLS=25 kills 25 times")
def test_killed_and_damaged(uninterrupted: Any, tmp_path: Path, runner_in: Any) -> None:
    folder = tmp_path / "killed"
    runner = runner_in(folder)
    log = folder / "output.txt"
    draw = random.Random(25)
    killed, story = 0, []
    removed: list[str] = []
    while killed < KILLS:
        seen = log.stat().st_size if log.exists() else 0
        process = runner.start()
        children = []
        while process.poll() is None and log.stat().st_size == seen:  # it is still importing
            time.sleep(0.02)
        try:
            process.wait(draw.uniform(0, 12))
        except subprocess.TimeoutExpired:
            children = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            story.append("killed")
        else:
            said = log.read_bytes()[seen:].decode(errors="replace")
            assert "Traceback" not in said, f"{story[-6:]}:\n{said}"
            if process.returncode == 0:
                assert runner.records() == uninterrupted.records(), story[-6:]
                story.append("finished")
                for name in ("small", "home"):  # from the beginning
                    remove(runner.run_folder if name == "small" else folder / "home")
                time.sleep(0.1)
                continue
            assert process.returncode == 2, f"{story[-6:]}: {process.returncode}\n{said}"
            named = blamed(said, folder)
            assert named, f"{story[-6:]}: nothing that could be taken away is named:\n{said}"
            removed += [str(path.relative_to(folder)) for path in named]
            for path in named:
                remove(path)
            story.append(f"took away {sorted(path.name for path in named)}")
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, f"workers outlived the core: {alive}"
        files = damageable(*(path for path in (folder / "home", folder / "runs") if path.exists()))
        if files and story[-1] == "killed":
            story.append(damage(draw.choice(files), draw))
    for _ in range(5):  # what the last damage has hit is named, and taken away
        seen = log.stat().st_size
        if runner.start().wait(300) == 0:
            break
        for path in blamed(log.read_bytes()[seen:].decode(errors="replace"), folder):
            removed.append(str(path.relative_to(folder)))
            remove(path)
    assert runner.records() == uninterrupted.records(), story
    print(f"\n{killed} kills; {story.count('finished')} runs finished in between; taken away by hand: {removed}")
    print("\n".join(story))
