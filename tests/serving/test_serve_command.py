"""The command ``vpolicy serve`` from its start to a signal, asked by openpi's own client."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from children import Child, command_line
from command import vpolicy
from serving import Running, connected, deployed, question, served, told, untrained
from uv import find_uv_bin

import videopolicy
from videopolicy import Window
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_models import ToyReflex

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
SPACES = ToyBenchmark().spaces()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("exported") / "linear")


@pytest.fixture(scope="module")
def openpi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with openpi's own client, which wants another numpy than ours."""
    folder = tmp_path_factory.mktemp("openpi")
    uv, python = find_uv_bin(), folder / "environment" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "environment"], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", python, "openpi-client==0.1.2", "typing-extensions"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"openpi-client cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return python


def program(*arguments: str) -> None:
    """The command line; a test run in the background inherits that Ctrl-C and SIGHUP are ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    command_line(*arguments)


def started(folder: Path, exported: Path, *options: str, **variables: str) -> Iterator[tuple[Child, Path]]:
    output = folder / "output.txt"
    arguments = ("serve", str(exported), "--port", "0", "--device", "cpu", "--trust", *options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    child = Child(program, arguments, folder, environment, output)
    try:
        yield child, output
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)


def test_the_pages_client_is_answered(openpi: Path, tmp_path: Path) -> None:
    example, _ = EXAMPLES
    with served(deployed(ToyReflex(Window(horizon=4), 1, 2))) as running:
        program = tmp_path / "client.py"
        program.write_text(example.replace("8000", str(running.port)), encoding="utf-8")
        done = subprocess.run([openpi, program], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("(4, 2) ")
        wrong = example.replace("8000", str(running.port)).replace('"prompt": said["instructions"][0]', '"prompt": ""')
        program.write_text(wrong, encoding="utf-8")
        done = subprocess.run([openpi, program], capture_output=True, text=True, timeout=300)
        assert "the policy is conditioned on one" in done.stderr


def test_the_pages_plain_client_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    _, example = EXAMPLES
    with served(deployed(ToyReflex(Window(horizon=4), 1, 2))) as running:
        example = example.replace("8000", str(running.port))
        exec(example, {})
        assert capsys.readouterr().out == "(4, 2)\n"
        with pytest.raises(RuntimeError, match="the policy is conditioned on one"):
            exec(example.replace('"prompt": said["instructions"][0]', '"prompt": ""'), {})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_cleanly(number: int, exported: Path, tmp_path: Path) -> None:
    for child, output in started(tmp_path, exported, VPOLICY_API_KEY="secret"):
        while not output.exists() or "ready" not in output.read_text():
            assert child.poll() is None, output.read_text()
            time.sleep(0.1)
        found = re.search(r"ws://127\.0\.0\.1:(\d+) with the key", output.read_text())
        assert found is not None
        header = {"Authorization": "Api-Key secret"}
        asked = question(SPACES, np.random.default_rng(0))
        with connected(Running(int(found[1])), additional_headers=header) as (connection, said):
            actions = told(connection, asked)["actions"]
            child.send_signal(number)
            assert child.wait(60) == 0
        assert said["policy"] == "linear" and f"ended by {signal.Signals(number).name}" in output.read_text()
        policy = videopolicy.load(exported, "cpu", trust=True)
        (camera,) = SPACES.cameras
        image = asked[f"observation/{camera.name}"]
        expected = policy.act({camera.name: image}, asked["observation/state"], asked["prompt"])
        np.testing.assert_array_equal(actions, expected)


def test_what_cannot_be_served_is_said(exported: Path, tmp_path: Path) -> None:
    done = vpolicy(tmp_path, "serve", str(tmp_path / "nothing"), "--port", "0")
    assert done.returncode == 2 and "There is no run folder" in done.stderr
    done = vpolicy(tmp_path, "serve", str(exported), "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2 and "VPOLICY_API_KEY" in done.stderr
    (tmp_path / "key").write_text("\n")
    done = vpolicy(tmp_path, "serve", str(exported), "--api-key-file", str(tmp_path / "key"))
    assert done.returncode == 2 and "holds no key" in done.stderr
