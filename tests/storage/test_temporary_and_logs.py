"""What a run leaves besides what it made: short-lived folders, logs of simulators, what nothing needs any more."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from videopolicy.errors import BusyError
from videopolicy.storage import files
from videopolicy.storage.files import locked
from videopolicy.storage.leftovers import leftovers
from videopolicy.storage.logs import cap
from videopolicy.storage.store import Store
from videopolicy.storage.temporary import left_behind, make_folder, remove_folder, sweep, temporary_folder

KILLED = """
import os, signal
from videopolicy.storage.temporary import make_folder
folder = make_folder()
(folder / "0.sock").touch()
print(folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def tmp(tmp_path, monkeypatch) -> Path:
    """The system's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def old(folder: Path) -> Path:
    then = time.time() - 3600
    os.utime(folder, (then, then))
    return folder


def test_a_folder_of_a_killed_process_is_swept_and_no_other(tmp):
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp)}, stdout=subprocess.PIPE, text=True
    )
    dead = Path(done.stdout.strip())
    assert dead.parent == tmp and sweep() == []  # so young that its owner may be about to hold it
    mine, foreign, link = old(make_folder()), tmp / "vpolicy-somebodys", tmp / "vpolicy-link"
    foreign.mkdir()
    (foreign / "work").touch()
    link.symlink_to(dead)
    old(foreign)
    assert sweep() == []
    assert left_behind() == [] and old(dead).is_dir() and left_behind() == [dead]
    make_folder()  # the next process does it
    assert not dead.exists()
    assert mine.is_dir() and (foreign / "work").exists() and link.is_symlink()
    remove_folder(mine)
    assert not mine.exists()
    with temporary_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_another_users_folder_is_left(tmp):
    theirs = tmp / "vpolicy-theirs"
    theirs.mkdir()
    (theirs / ".owner").touch()
    os.chown(theirs, 12345, 12345)
    assert old(theirs).is_dir() and sweep() == []
    os.chown(theirs, 0, 0)
    assert sweep() == [theirs]


def test_a_log_keeps_its_beginning_and_its_end_while_somebody_writes_to_it(tmp_path):
    log = tmp_path / "worker-0.log"
    cap(log)
    assert not log.exists()
    with log.open("ab", buffering=0) as writer:
        for number in range(2000):
            writer.write(f"line {number:05d}\n".encode())
        cap(log, limit=30_000)
        assert log.stat().st_size == 22_000
        cap(log, limit=10_000, head=1_100, tail=3_305)
        writer.write(b"the last\n")
    lines = log.read_text().splitlines()
    assert lines[:100] == [f"line {number:05d}" for number in range(100)]
    assert "bytes of this log were cut out here, as it was longer than 10000" in lines[101]
    assert lines[102:] == [*(f"line {number:05d}" for number in range(1700, 2000)), "the last"]


def test_what_is_left_over_is_found_by_kind(tmp):
    store = Store(tmp / "home")
    finished, unfinished = store.folder("stages", "a"), store.folder("stages", "b")
    for folder in (finished, unfinished):
        (folder / "checkpoint.ckpt").write_bytes(bytes(500))
    Store.finish(finished, {"name": "a"})
    logs = store.root / "logs" / "units"
    logs.mkdir(parents=True)
    (logs / "new.log").write_text("new")
    old(logs / "new.log")
    (logs / "old.log").write_text("older")
    os.utime(logs / "old.log", (0, 0))
    found = {one.what: one for one in leftovers(store, 1.0)}
    assert {what: one.bytes for what, one in found.items()} == {
        "checkpoints of finished stages": 500,
        "logs of units": 5,
    }
    for one in found.values():
        one.remove()
    assert (unfinished / "checkpoint.ckpt").exists() and (logs / "new.log").exists()
    assert leftovers(store, 1.0) == []
    assert Store.finished(finished) == {"name": "a"}


def test_who_waits_for_a_lock_says_so_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SECONDS_BETWEEN_WORDS", 0.5)
    holding = "import sys, time; from pathlib import Path; from videopolicy.storage.files import locked\n"
    holding += "with locked(Path(sys.argv[1]), 'it'): print('held', flush=True); sys.stdin.read()"
    said: list[str] = []
    command = [sys.executable, "-c", holding, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None and process.stdout.readline() == "held\n"
        with pytest.raises(BusyError), locked(tmp_path, "a thing"):
            pass

        def heard(text: str) -> None:
            said.append(text)
            if "Still waiting" in text:
                process.stdin.close()

        with locked(tmp_path, "a thing", heard):
            pass
    assert said[0] == f"Another process is working on a thing ({tmp_path}); this one waits for it."
    assert said[1].startswith("Still waiting for the process that is working on a thing")
