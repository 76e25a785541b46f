"""Collection survives being killed, and never leaves half a file."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
from hdf5_samples import SPACES, collect, episode
from vpolicy_hdf5.components import RobomimicHDF5
from vpolicy_hdf5.writer import HDF5Writer

from videopolicy import DataError, StorageError


def _collect_until_killed(folder: Path) -> None:
    writer = HDF5Writer(folder, SPACES)
    for attempt in range(10_000):
        writer.add(episode("close", attempt, success=attempt % 3 != 2))


@pytest.mark.parametrize("parts_before_the_kill", [1, 6])
def test_kill_at_any_moment_leaves_whole_attempts(tmp_path: Path, parts_before_the_kill: int) -> None:
    folder = tmp_path / "data"
    child = multiprocessing.get_context("fork").Process(target=_collect_until_killed, args=(folder,))
    child.start()
    writer, deadline = HDF5Writer(folder, SPACES), time.monotonic() + 60
    while len(writer.present().get("close", {})) < parts_before_the_kill and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    present = writer.present()["close"]
    assert sorted(present) == list(range(len(present)))
    assert present == {attempt: attempt % 3 != 2 for attempt in present}
    with pytest.raises(DataError, match="was not finished"):
        RobomimicHDF5().build(folder)
    good = [attempt for attempt, success in present.items() if success]
    writer.finish({"close": good})
    assert RobomimicHDF5().build(folder).splits == {"train": len(good)}
    assert [path.name for path in sorted(folder.iterdir())] == ["close.hdf5", "dataset.json"]


def test_a_kill_while_finishing_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = RobomimicHDF5().build(collect(tmp_path / "straight")).fingerprint()
    chosen = {"open door": [0, 1, 2], "close": [0, 1, 2]}
    for publications_before_the_kill in range(3):
        folder = tmp_path / str(publications_before_the_kill)
        writer = HDF5Writer(folder, SPACES)
        for task in chosen:
            for attempt in (0, 1, 2):
                writer.add(episode(task, attempt))
        _finish_until_killed(writer, chosen, publications_before_the_kill)
        again = HDF5Writer(folder, SPACES)
        assert again.present() == {task: dict.fromkeys((0, 1, 2), True) for task in chosen}
        again.finish(chosen)
        assert RobomimicHDF5().build(folder).fingerprint() == straight


def _finish_until_killed(writer: HDF5Writer, chosen: dict[str, list[int]], publications: int) -> None:
    def run() -> None:
        import vpolicy_hdf5.writer as layout

        from videopolicy.parts import collecting

        written_whole, done = collecting.written_whole, []

        @contextmanager
        def counted(path: Path, shared: bool = False) -> Iterator[Path]:
            with written_whole(path, shared) as part:
                yield part
                if len(done) == publications:
                    os.kill(os.getpid(), signal.SIGKILL)
            done.append(path)

        layout.written_whole = collecting.written_whole = counted
        writer.finish(chosen)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_finish_keeps_the_chosen_and_remembers_all_attempts(tmp_path: Path) -> None:
    writer = HDF5Writer(tmp_path / "data", SPACES)
    for attempt in range(5):
        writer.add(episode("close", attempt, success=attempt != 1))
    folder = writer.finish({"close": [0, 3]})
    assert writer.finish({"close": [0, 3]}) == folder
    assert writer.present() == {"close": {0: True, 1: False, 2: True, 3: True, 4: True}}
    assert RobomimicHDF5().build(folder).initial_states() == {"close-0", "close-3"}
    with pytest.raises(DataError, match="finished with other episodes"):
        writer.finish({"close": [0, 2]})
    with pytest.raises(DataError, match="is finished"):
        writer.add(episode("close", 9))


def test_robomimic_finds_what_it_looks_for(tmp_path: Path) -> None:
    folder = collect(tmp_path / "data", tasks=("push a/b",), attempts=(0, 4))
    with h5py.File(folder / "push a%2Fb.hdf5") as file:
        data, original = file["data"], episode("push a/b", 4)
        assert json.loads(data.attrs["env_args"])["env_name"] == "push a/b"
        assert data.attrs["total"] == 18
        demo = data["demo_1"]
        assert demo.attrs["num_samples"] == 9
        assert json.loads(demo.attrs["ep_meta"])["lang"] == "please push a/b"
        assert np.array_equal(demo["obs/side_image"], original.images["side"])
        assert np.array_equal(demo["actions"], original.actions)
        assert demo["dones"][()].tolist() == [False] * 8 + [True]
        assert demo["rewards"][()].sum() == 1


def test_nonsense_from_an_expert_is_refused(tmp_path: Path) -> None:
    writer, good = HDF5Writer(tmp_path / "data", SPACES), episode("close", 0)
    cases = {
        "actions of shape \\(9, 3\\)": {"actions": good.actions[:, :3]},
        "actions that are not finite": {"actions": good.actions * np.nan},
        "state of shape None": {"state": None},
        "camera 'wrist' of shape None": {"images": {"side": good.images["side"]}},
        "camera 'side' of shape \\(9, 12, 8, 3\\)": {
            "images": {**good.images, "side": good.images["side"].swapaxes(1, 2)}
        },
    }
    for says, change in cases.items():
        with pytest.raises(DataError, match=f"Attempt 0 of task 'close' has {says}"):
            writer.add(dataclasses.replace(good, **change))
    assert writer.present() == {}
    with pytest.raises(DataError, match="no episode of task 'close'"):
        writer.finish({"close": []})
    with pytest.raises(DataError, match=r"Attempt 7 .* not recorded"):
        writer.finish({"close": [7]})


def test_a_full_disk_is_said_and_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = HDF5Writer(tmp_path / "data", SPACES)
    writer.add(episode("close", 0))

    for error, says, hint in (
        (
            OSError("Can't write data (No space left on device)"),
            "disk is full",
            "finished episodes are kept",
        ),
        (OSError(28, "No space left on device"), "No space left on device", "nothing finished is lost"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(HDF5Writer, "_write", Mock(side_effect=error))
            with pytest.raises(StorageError, match=says) as caught:
                writer.add(episode("close", 1))
        assert hint in caught.value.hint
    assert writer.present() == {"close": {0: True}}
    assert [path.name for path in writer.parts.glob("*/*")] == ["000000.hdf5"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        HDF5Writer(tmp_path / "file", SPACES).add(episode("close", 0))
    assert "A file stands where a folder is needed" in caught.value.hint


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_an_attempt_whose_file_is_damaged_is_made_again(
    tmp_path: Path, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    straight = RobomimicHDF5().build(collect(tmp_path / "straight", tasks=("close",))).fingerprint()
    writer = HDF5Writer(tmp_path / "data", SPACES)
    for attempt in (0, 1):
        writer.add(episode("close", attempt))
    part = writer.parts / "close" / "000001.hdf5"
    content = part.read_bytes()
    changed = bytearray(content[: int(kept * len(content))])
    if kept == 1:  # a lost page in the middle of the numbers
        at = content.index(episode("close", 1).actions.tobytes())
        changed[at : at + 8] = bytes(8)
    part.write_bytes(bytes(changed))
    again = HDF5Writer(tmp_path / "data", SPACES)
    assert again.present() == {"close": {0: True}}
    assert f"{part}" in caplog.text and "The attempt is made again." in caplog.text
    for attempt in (1, 2):
        again.add(episode("close", attempt))
    again.finish({"close": [0, 1, 2]})
    assert RobomimicHDF5().build(tmp_path / "data").fingerprint() == straight


def test_a_damaged_list_of_a_collection_is_made_again_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = HDF5Writer(tmp_path / "data", SPACES)
    writer.add(episode("close", 0))
    with monkeypatch.context() as patched:
        patched.setattr("videopolicy.parts.collecting.shutil.rmtree", Mock())  # killed in between
        writer.finish({"close": [0]})
    (tmp_path / "data" / "dataset.json").write_text("[")
    again = HDF5Writer(tmp_path / "data", SPACES)
    assert again.present() == {"close": {0: True}} and "dataset.json is damaged" in caplog.text
    again.finish({"close": [0]})
    for text in ("", "[]", '{"attempts": 3}'):
        (tmp_path / "data" / "dataset.json").write_text(text)
        with pytest.raises(DataError, match=r"dataset\.json is damaged"):
            HDF5Writer(tmp_path / "data", SPACES).present()


def _no_space(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _no_space_in_hdf5(*arguments: object, **options: object) -> None:
    raise RuntimeError("Can't decrement id ref count (file write failed: errno = 28, error message = 'No space')")


@pytest.mark.parametrize("broken", [(Path, "write_bytes", _no_space), (os, "posix_fallocate", _no_space)])
def test_a_full_disk_is_said_in_the_words_of_everybody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: tuple
) -> None:
    writer = HDF5Writer(tmp_path / "data", SPACES)
    writer.add(episode("close", 0))
    with monkeypatch.context() as patched:
        patched.setattr(*broken)
        with pytest.raises(StorageError, match=r"cannot be written: No space left on device\.") as caught:
            if broken[1] == "write_bytes":
                writer.add(episode("close", 1))
            else:
                writer.finish({"close": [0]})
        assert caught.value.hint.startswith("Free some space")
    assert writer.present() == {"close": {0: True}}
    assert not list((tmp_path / "data").glob("*.hdf5"))
    assert writer.finish({"close": [0]}) == tmp_path / "data"


def test_a_disk_that_fills_inside_of_hdf5_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = HDF5Writer(tmp_path / "data", SPACES)
    writer.add(episode("close", 0))
    with monkeypatch.context() as patched:
        patched.setattr(h5py.Group, "copy", _no_space_in_hdf5)
        with pytest.raises(StorageError, match=r"close\.hdf5 cannot be written: No space left on device\."):
            writer.finish({"close": [0]})
    assert writer.finish({"close": [0]}) == tmp_path / "data"


def test_attempts_are_written_without_hdf5_touching_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, opened = HDF5Writer(tmp_path / "data", SPACES), h5py.File
    drivers = []

    def spied(*arguments: object, **options: object) -> h5py.File:
        drivers.append((options.get("driver"), options.get("backing_store")))
        return opened(*arguments, **options)

    monkeypatch.setattr(h5py, "File", spied)
    writer.add(episode("close", 0))
    assert drivers == [("core", False)]


def test_a_damaged_attempt_and_a_damaged_end_are_named(tmp_path: Path) -> None:
    writer = HDF5Writer(tmp_path / "data", SPACES)
    for attempt in range(2):
        writer.add(episode("close", attempt))
    (writer.parts / "close" / "notes.hdf5").touch()  # somebody else's
    assert writer.present() == {"close": {0: True, 1: True}}
    part = writer.parts / "close" / "000001.hdf5"
    whole = part.read_bytes()
    for damage in (whole[:-200], b"", b"text"):
        part.write_bytes(damage)
        with pytest.raises(DataError, match=r"000001\.hdf5 cannot be read") as caught:
            writer.finish({"close": [0, 1]})
        assert "this attempt is then made again" in caught.value.hint
    part.unlink()
    writer.add(episode("close", 1))
    writer.finish({"close": [0, 1]})
    marker = tmp_path / "data" / "dataset.json"
    for text in ("", "{", "[]", '{"attempts": 3, "chosen": {}}'):
        marker.write_text(text)
        for call in (writer.present, lambda: writer.finish({"close": [0, 1]})):
            with pytest.raises(DataError, match=r"dataset\.json is damaged"):
                call()
