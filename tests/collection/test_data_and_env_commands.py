from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from videopolicy.cli import data, env
from videopolicy.components import registry
from videopolicy.components.kinds import DatasetComponent
from videopolicy.components.plugins import file_plugin
from videopolicy.components.registry import Registry, current_registry
from videopolicy.console.progress import Reporter
from videopolicy.data.collection import collect
from videopolicy.errors import DataError, PluginError
from videopolicy.testing import toy_benchmark
from videopolicy.testing.toy_benchmark import ToyBenchmark


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Three episodes of two tasks in a layout that holds those of any benchmark."""
    folder = tmp_path_factory.mktemp("data")
    name = "robomimic-hdf5"
    component = current_registry().get("dataset", name).model_validate({"type": name, "episodes_per_task": 3})
    assert isinstance(component, DatasetComponent)
    benchmark = ToyBenchmark(task_names=("red", "blue"))
    writer = component.writer(folder, benchmark.spaces())
    request = component.demonstrations()
    return collect(
        benchmark, request, writer, Path(sys.executable), 2, folder.parent / "logs", Reporter(quiet=True)
    ).folder


def rows(output: str) -> dict[str, list[str]]:
    return {
        " ".join(line.split()[1:-4]): line.split()[-4:]
        for line in output.splitlines()
        if line.startswith(("train", "validation"))
    }


def test_info_counts_episodes_and_steps_by_sentence(dataset):
    result = CliRunner().invoke(data.app, ["info", str(dataset), "--quiet"], catch_exceptions=False)
    assert "top 16x16" in result.output and "x, y (delta_position, 10 Hz)" in result.output
    table = rows(result.output)
    assert set(table) == {"move the dot to the red square", "move the dot to the blue square"}
    for episodes, steps, shortest, longest in table.values():
        assert episodes == "3"
        assert 3 * int(shortest) <= int(steps) <= 3 * int(longest)


def test_info_says_that_a_script_acted(dataset):
    result = CliRunner().invoke(data.app, ["info", str(dataset), "--quiet"], catch_exceptions=False)
    said = " ".join(result.output.split())
    assert "note: 6 of 6 episodes are demonstrations of a scripted expert, not of a human" in said


def test_info_takes_options_of_the_dataset_type(dataset):
    result = CliRunner().invoke(data.app, ["info", str(dataset), "validation=0.34", "--quiet"], catch_exceptions=False)
    lines = [line for line in result.output.splitlines() if line.startswith("validation")]
    assert len(lines) == 2 and all(line.split()[-4] == "1" for line in lines)


def test_info_says_when_several_types_or_none_fit(dataset):
    with pytest.raises(PluginError, match=r"robomimic-hdf5.*, none fit these options") as caught:
        CliRunner().invoke(data.app, ["info", str(dataset), "validaton=0.34"], catch_exceptions=False)
    assert "--type" in caught.value.hint
    with pytest.raises(DataError, match=r"(?s)do not fit dataset type 'robomimic-hdf5'.*validaton"):
        CliRunner().invoke(
            data.app, ["info", str(dataset), "validaton=0.34", "--type", "robomimic-hdf5"], catch_exceptions=False
        )


def test_info_finds_a_file_that_was_cut_short(dataset, tmp_path):
    whole = next(dataset.glob("*.hdf5")).read_bytes()
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.hdf5"):
        CliRunner().invoke(data.app, ["info", str(cut)], catch_exceptions=False)
    with pytest.raises(DataError, match="does not exist"):
        CliRunner().invoke(data.app, ["info", str(tmp_path / "nothing")], catch_exceptions=False)


@pytest.fixture
def with_toy(monkeypatch):
    extended = Registry(current_registry().plugins).extended([file_plugin(Path(toy_benchmark.__file__))])
    monkeypatch.setattr(registry, "current_registry", lambda: extended)


def test_check_starts_the_simulator_and_says_what_works(with_toy):
    result = CliRunner().invoke(env.app, ["check", "toy"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "as declared: top 16x16" in result.output
    assert "5 steps of doing nothing" in result.output


def test_list_names_every_benchmark_and_its_interpreter(with_toy, monkeypatch):
    monkeypatch.setenv("VPOLICY_TOY_PYTHON", "/my/python")
    result = CliRunner().invoke(env.app, ["list"], catch_exceptions=False)
    line = next(line for line in result.output.splitlines() if line.startswith("toy"))
    assert "given by VPOLICY_TOY_PYTHON" in line and "/my/python" in line


def test_an_unknown_benchmark_gets_the_nearest_name(with_toy):
    with pytest.raises(PluginError, match="Did you mean 'toy'"):
        CliRunner().invoke(env.app, ["check", "toi"], catch_exceptions=False)
