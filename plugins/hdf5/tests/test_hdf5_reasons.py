"""A file that cannot be opened for a reason outside of it is not called damaged."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_samples import ACTIONS, collect, foreign_file
from pydantic import ValidationError
from vpolicy_hdf5.components import RobomimicHDF5
from vpolicy_hdf5.faults import readable

from videopolicy import DataError, Window


def _build(path: Path, **options: object) -> None:
    RobomimicHDF5(path=path, actions=ACTIONS, **options).build(None)


def _told(path: Path, says: str, hint: str, **options: object) -> None:
    with pytest.raises(DataError, match=says) as caught:
        _build(path, **options)
    assert hint in caught.value.hint
    for blame in ("delete", "cut short", "damaged"):
        assert blame not in str(caught.value)


def test_a_writer_is_told_from_damage(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with path.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        _told(path, "lift.hdf5 cannot be read: another process has it open for writing", "Wait for that process")
    _build(path)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EACCES, "Unable to open file"), "its permissions do not allow it"),
        (OSError("Can't read data (file read failed: errno = 5, error message = 'Input/output error')"), "disk or the"),
        (OSError(errno.EMFILE, "Unable to open file"), "may not open more files"),
        (OSError(errno.ENOLCK, "Unable to lock file"), "its file system has no locks"),
        (OSError("Unable to open file (file is already open for write (may use <h5clear file>))"), "marked as being"),
        (OSError("Can't read data (required filter 'lz4' is not registered)"), "filter that is not installed"),
        (RuntimeError("Unable to read (errno = 71, error message = 'Protocol error')"), "Protocol error"),
    ],
)
def test_the_reason_is_what_the_system_says(tmp_path: Path, error: Exception, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught, readable(tmp_path / "x.hdf5", "episode 'demo_1'"):
        raise error
    assert "x.hdf5, episode 'demo_1', cannot be read" in caught.value.message and caught.value.hint
    assert "delete" not in str(caught.value) and "damaged" not in str(caught.value)


def test_only_what_was_collected_here_can_be_collected_anew(tmp_path: Path) -> None:
    ours, foreign = collect(tmp_path / "data", tasks=("close",)) / "close.hdf5", foreign_file(tmp_path / "lift.hdf5")
    for path, again in ((ours, True), (foreign, False)):
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match=r"cut short: \d+ of its \d+ bytes") as caught:
            _build(path)
        assert ("collect it again" in caught.value.hint) == again
    foreign.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    _told(foreign, "a pointer of Git LFS", "git lfs pull")


def test_more_files_than_may_be_open_are_read(tmp_path: Path) -> None:
    for number in range(40):
        foreign_file(tmp_path / f"t{number:02}.hdf5", demos=1)
    windows = RobomimicHDF5(path=tmp_path, actions=ACTIONS, memory_limit=0).build(None).windows(Window())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 32, hard))
    try:
        images = windows.batch(range(len(windows))).observation.images["agentview"]
        assert len(images) == 40 * 7
        assert len(list(Path("/proc/self/fd").iterdir())) <= used + (used + 32) // 4 + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_folders_pipes_and_links_that_end_like_files(tmp_path: Path) -> None:
    foreign_file(tmp_path / "a.hdf5")
    (tmp_path / "b.hdf5").mkdir()
    _build(tmp_path)
    os.mkfifo(tmp_path / "c.hdf5")
    _told(tmp_path, "c.hdf5 is a named pipe, not a file", "Name a file")
    with pytest.raises(ValidationError, match=r"c\.hdf5 is a named pipe: give a file or a folder"):
        _build(tmp_path / "c.hdf5")
    (tmp_path / "c.hdf5").unlink()
    (tmp_path / "d.hdf5").symlink_to(tmp_path / "moved.hdf5")
    _told(tmp_path, "d.hdf5 is a link to .*moved.hdf5, which does not exist", "Restore")


def test_a_missing_filter_is_named_with_its_package(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        obs = file["data/demo_1/obs"]
        shape = obs["agentview_rgb"].shape
        del obs["agentview_rgb"]
        packed = obs.create_dataset(
            "agentview_rgb", shape, np.uint8, chunks=shape, compression=32001, allow_unknown_filter=True
        )
        packed.id.write_direct_chunk((0, 0, 0, 0), bytes(900), 0)
    _told(path, r"demo_1.*'obs/agentview_rgb'.*filter 32001 \(Blosc\)", "hdf5plugin")


def test_links_to_what_was_moved_are_named(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "lift.hdf5")
    other = foreign_file(tmp_path / "other.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_8"] = h5py.ExternalLink("other.hdf5", "/data/demo_1")
    _build(path)
    other.rename(tmp_path / "moved.hdf5")
    _told(path, "'demo_8' is a link into the file other.hdf5, which is not there", "other.hdf5")
    os.mkfifo(other)
    _told(path, "other.hdf5 is a named pipe", "Name a file")
    other.unlink()
    with h5py.File(path, "a") as file:
        del file["data/demo_8"]
        file["data/demo_0/obs/wrist_rgb"] = h5py.SoftLink("/data/demo_7/obs/wrist_rgb")
    _told(path, "'wrist_rgb' is a link to /data/demo_7/obs/wrist_rgb", "Restore", cameras={"wrist": "wrist_rgb"})
