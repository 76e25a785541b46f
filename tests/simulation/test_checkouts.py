"""Repositories that simulators run from: cloned once, or named by the user, and compared with what is expected."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from videopolicy.contracts.benchmark import Checkout, WorkerSpec
from videopolicy.errors import SimulationError
from videopolicy.simulators import environments
from videopolicy.simulators.checkouts import digest, ensure_checkout, source_folder, to_be_cloned


def git(*arguments: str | Path) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *who, *map(str, arguments)], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def origin(tmp_path):
    """A repository of two commits, of which the first is the one that is needed."""
    folder = tmp_path / "origin"
    for name, text in (("code/engine.py", "x = 1"), ("data/table.urdf", "<robot/>"), ("README", "hello")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git("init", "--quiet", folder)
    for change in ("first", "second"):
        (folder / "code" / "version").write_text(change)
        git("-C", folder, "add", "--all")
        git("-C", folder, "commit", "--quiet", "--message", change)
    return folder


@pytest.fixture
def spec(origin, tmp_path, monkeypatch):
    monkeypatch.delenv("VPOLICY_THING_SOURCE", raising=False)
    copy = tmp_path / "needed"
    git("clone", "--quiet", origin, copy)
    git("-C", copy, "checkout", "--quiet", "HEAD~1")
    digests = {name: digest(copy / name) for name in ("code", "data")}
    checkout = Checkout(url=str(origin), commit=git("-C", copy, "rev-parse", "HEAD"), digests=digests)
    return WorkerSpec(environment="thing", module=tmp_path / "x.py", simulator="X", checkout=checkout)


def test_it_is_cloned_once_at_its_commit_and_the_worker_is_given_its_folder(spec, tmp_path, monkeypatch):
    home, said = tmp_path / "home", []
    assert "has to be cloned" in environments.to_be_made(spec, home)
    assert not environments.is_ready(spec, home)
    environments.interpreter(spec, home, said.append)
    folder = source_folder(spec, home)
    assert (folder / "code" / "version").read_text() == "first" and len(said) == 1
    environments.interpreter(spec, home, said.append)
    assert len(said) == 1 and environments.is_ready(spec, home) and environments.to_be_made(spec, home) == ""
    monkeypatch.setenv("VPOLICY_HOME", str(home))
    assert environments.worker_variables(spec, tmp_path)["VPOLICY_THING_SOURCE"] == str(folder)


def test_a_checkout_that_is_there_is_used_as_it_is(spec, tmp_path, monkeypatch):
    needed = tmp_path / "needed"
    shutil.rmtree(needed / ".git")  # as from an archive
    (needed / "code" / "__pycache__").mkdir()
    (needed / "code" / "__pycache__" / "engine.pyc").touch()
    monkeypatch.setenv("VPOLICY_THING_SOURCE", str(needed))
    ensure_checkout(spec, tmp_path / "home")
    assert source_folder(spec, tmp_path / "home") == needed and not (tmp_path / "home").exists()


def test_one_that_is_another_is_named_with_what_differs(spec, origin, tmp_path, monkeypatch):
    monkeypatch.setenv("VPOLICY_THING_SOURCE", str(origin))
    with pytest.raises(SimulationError, match=r"is another version \([0-9a-f]{12}\): code/ differs") as caught:
        environments.to_be_made(spec, tmp_path / "home")
    assert f"git -C origin checkout {spec.checkout.commit}" in caught.value.hint
    assert "VPOLICY_THING_SOURCE" in caught.value.hint and not environments.is_ready(spec, tmp_path / "home")
    needed = tmp_path / "needed"
    monkeypatch.setenv("VPOLICY_THING_SOURCE", str(needed))
    (needed / "code" / "engine.py").write_text("x = 2")
    with pytest.raises(SimulationError, match="was changed: code/ differs from commit"):
        ensure_checkout(spec, tmp_path / "home")
    shutil.rmtree(needed / "data")
    with pytest.raises(SimulationError, match="has no folder data/"):
        ensure_checkout(spec, tmp_path / "home")
    monkeypatch.setenv("VPOLICY_THING_SOURCE", str(tmp_path / "nowhere"))
    with pytest.raises(SimulationError, match="nowhere does not exist"):
        ensure_checkout(spec, tmp_path / "home")


def test_what_cannot_be_cloned_is_said_with_what_to_clone_and_where_to_point(spec, tmp_path, monkeypatch):
    gone = spec.checkout.model_copy(update={"url": str(tmp_path / "gone")})
    unreachable = spec.model_copy(update={"checkout": gone})
    with pytest.raises(SimulationError, match=r"needs .*gone at commit .*, which could not be cloned: ") as caught:
        ensure_checkout(unreachable, tmp_path / "home")
    assert f"git clone {gone.url} gone" in caught.value.hint and "set VPOLICY_THING_SOURCE" in caught.value.hint
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulationError, match="git is not installed"):
        ensure_checkout(spec, tmp_path / "home")


def test_what_was_left_half_cloned_is_cloned_again(spec, tmp_path):
    folder = source_folder(spec, tmp_path / "home")
    (folder / "code").mkdir(parents=True)
    assert to_be_cloned(spec, tmp_path / "home")
    ensure_checkout(spec, tmp_path / "home")
    assert (folder / "data" / "table.urdf").is_file()
