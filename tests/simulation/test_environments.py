"""Simulators' environments, with a uv that only pretends."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
import uv

from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.errors import SimulationError
from videopolicy.simulators import environments

UV = """#!/bin/sh
echo "$@" >>"{log}"
if [ "$1" = venv ]; then
  sleep 0.2
  for folder; do :; done
  mkdir -p "$folder/bin" && touch "$folder/bin/python"
elif [ "$1" = python ]; then
  [ ! -e "{no_python}" ]
elif [ -e "{broken}" ]; then
  echo "resolving"; echo "no such version: nonsense==1"; exit 1
fi
"""


@pytest.fixture
def fake_uv(tmp_path, monkeypatch):
    program = tmp_path / "uv"
    program.write_text(UV.format(log=tmp_path / "log", broken=tmp_path / "broken", no_python=tmp_path / "no-python"))
    program.chmod(0o755)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(program))
    monkeypatch.delenv("VPOLICY_THING_PYTHON", raising=False)
    return tmp_path / "log"


@pytest.fixture
def spec(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("physics==1.0\n")
    return WorkerSpec(
        environment="thing", requirements=requirements, python=">=3.11", module=tmp_path / "x.py", simulator="X"
    )


def test_it_is_made_once_and_again_when_the_versions_change(fake_uv, spec, tmp_path):
    said = []
    python = environments.interpreter(spec, tmp_path / "home", said.append)
    assert python.is_file()
    assert environments.interpreter(spec, tmp_path / "home", said.append) == python
    calls = fake_uv.read_text().splitlines()
    assert len(calls) == 2 and len(said) == 1
    assert "--python >=3.11" in calls[0]
    assert calls[1].endswith("numpy msgpack") and str(spec.requirements) in calls[1]
    spec.requirements.write_text("physics==2.0\n")
    assert not environments.is_ready(spec, tmp_path / "home")
    assert environments.interpreter(spec, tmp_path / "home") != python


def test_what_would_have_to_be_made_is_said_without_making_it(fake_uv, spec, tmp_path, monkeypatch):
    home = tmp_path / "home"
    assert environments.to_be_made(spec, home) == (
        "The environment of 'thing' has to be made, with packages from the registry."
    )
    (tmp_path / "no-python").touch()
    assert "and a Python >=3.11 that uv downloads" in environments.to_be_made(spec, home)
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(SimulationError, match=r"there is no Python >=3\.11 here") as caught:
        environments.to_be_made(spec, home)
    assert "VPOLICY_THING_PYTHON" in caught.value.hint
    calls = fake_uv.read_text().splitlines()
    assert len(calls) == 3 and all("--no-python-downloads" in call and "--offline" in call for call in calls)
    assert not home.exists()
    (tmp_path / "no-python").unlink()
    environments.interpreter(spec, home)
    assert environments.to_be_made(spec, home) == ""


def test_what_cannot_be_made_is_an_error(fake_uv, spec, tmp_path, monkeypatch):
    gone = spec.model_copy(update={"requirements": tmp_path / "gone.txt"})
    with pytest.raises(SimulationError, match=r"gone\.txt does not exist"):
        environments.to_be_made(gone, tmp_path)

    def nowhere() -> str:
        raise FileNotFoundError("searched everywhere")

    monkeypatch.setattr(uv, "find_uv_bin", nowhere)
    with pytest.raises(SimulationError, match="uv is not here") as caught:
        environments.to_be_made(spec, tmp_path)
    assert "pip install uv" in caught.value.hint
    monkeypatch.setenv("VPOLICY_THING_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(SimulationError, match="nowhere, which does not exist"):
        environments.to_be_made(spec, tmp_path)


def test_what_was_left_half_made_is_made_again(fake_uv, spec, tmp_path):
    (tmp_path / "broken").touch()
    with pytest.raises(SimulationError, match="no such version: nonsense==1") as caught:
        environments.interpreter(spec, tmp_path / "home")
    assert "VPOLICY_THING_PYTHON" in caught.value.hint
    folder = environments.environment_folder(spec, tmp_path / "home")
    assert folder.exists() and not environments.is_ready(spec, tmp_path / "home")
    (folder / "half").touch()
    (tmp_path / "broken").unlink()
    assert environments.interpreter(spec, tmp_path / "home").is_file()
    assert not (folder / "half").exists()


def test_one_that_was_moved_is_used_and_one_without_its_interpreter_is_made_again(fake_uv, spec, tmp_path):
    environments.interpreter(spec, tmp_path / "home")
    assert "--relocatable" in fake_uv.read_text().splitlines()[0]
    (tmp_path / "home").rename(tmp_path / "moved")
    python = environments.interpreter(spec, tmp_path / "moved")
    assert python.is_file() and len(fake_uv.read_text().splitlines()) == 2
    python.unlink()  # a copy on a machine that has no such Python: the link leads nowhere
    python.symlink_to(tmp_path / "nowhere")
    assert not environments.is_ready(spec, tmp_path / "moved")
    python.parent.joinpath("half").touch()
    assert environments.interpreter(spec, tmp_path / "moved").is_file()
    assert len(fake_uv.read_text().splitlines()) == 4 and not python.parent.joinpath("half").exists()


def test_two_at_a_time_make_one(fake_uv, spec, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(environments.interpreter(spec, tmp_path / "home")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and len(fake_uv.read_text().splitlines()) == 2


def test_an_interpreter_of_the_users_own_is_used_and_checked(spec, monkeypatch, tmp_path):
    monkeypatch.setenv("VPOLICY_THING_PYTHON", sys.executable)
    assert environments.interpreter(spec, tmp_path) == Path(sys.executable)
    monkeypatch.setenv("VPOLICY_THING_PYTHON", "/nowhere/python")
    with pytest.raises(SimulationError, match="VPOLICY_THING_PYTHON is /nowhere/python, which does not exist"):
        environments.interpreter(spec, tmp_path)


def test_without_requirements_it_is_the_cores_own(spec, monkeypatch, tmp_path):
    monkeypatch.delenv("VPOLICY_THING_PYTHON", raising=False)
    own = spec.model_copy(update={"requirements": None})
    assert environments.interpreter(own, tmp_path) == Path(sys.executable)


def test_variables_of_a_worker(spec, monkeypatch, tmp_path):
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OTHER"):
        monkeypatch.setenv(name, "of the shell")
    found = environments.worker_variables(spec, tmp_path)
    assert (found["OTHER"], found["OMP_NUM_THREADS"], found["PYTHONPATH"]) == ("of the shell", "1", str(tmp_path))
    assert "LD_LIBRARY_PATH" not in found
    monkeypatch.setenv("VPOLICY_SIMULATOR_LD_LIBRARY_PATH", "drivers")
    monkeypatch.setenv("VPOLICY_SIMULATOR_PYTHONPATH", "more")
    declared = spec.model_copy(update={"variables": {"PYTHONPATH": "declared", "OMP_NUM_THREADS": "2"}})
    found = environments.worker_variables(declared, tmp_path)
    assert (found["LD_LIBRARY_PATH"], found["OMP_NUM_THREADS"]) == ("drivers", "2")
    assert found["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "declared", "more"])


@pytest.mark.parametrize("value", ["glfw", "off", "osmesa"])
def test_a_way_to_render_that_does_not_work_is_named_last(spec, monkeypatch, value):
    spec.module.write_text("def check_rendering():\n    raise RuntimeError('no backend works')\n")
    monkeypatch.setenv("MUJOCO_GL", value)
    with pytest.raises(SimulationError) as caught:
        environments.check_rendering(spec, Path(sys.executable))
    assert f"Unset MUJOCO_GL (it is {value})" in str(caught.value).splitlines()[-1]
    declared = spec.model_copy(update={"variables": {"MUJOCO_GL": "egl"}})
    with pytest.raises(SimulationError) as caught:
        environments.check_rendering(declared, Path(sys.executable))
    assert "apt-get install libegl1" in str(caught.value).splitlines()[-1]


def test_rendering_is_tried_and_refusal_explained(spec, tmp_path):
    spec.module.write_text("def check_rendering():\n    return 'paper and pencil render'\n")
    assert environments.check_rendering(spec, Path(sys.executable)) == "paper and pencil render"
    spec.module.write_text("def check_rendering():\n    raise RuntimeError('no backend works (egl: gone)')\n")
    with pytest.raises(SimulationError, match=r"no backend works \(egl: gone\)"):
        environments.check_rendering(spec, Path(sys.executable))
    spec.module.write_text("raise RuntimeError('needs another Python')\n")
    with pytest.raises(SimulationError) as caught:
        environments.check_rendering(spec, Path(sys.executable))
    assert "cannot render here.\n  | needs another Python" in caught.value.message
