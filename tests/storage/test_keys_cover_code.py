"""Keys follow the code: an edit that may matter changes them, a comment does not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from videopolicy.components import plugins
from videopolicy.components.plugins import file_plugin, installed_plugins
from videopolicy.components.registry import Registry
from videopolicy.components.sources import code_hash, with_neighbours
from videopolicy.data.preparation import _demonstrations_key
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage import identity
from videopolicy.storage.identity import core_code, digest, protocol_of
from videopolicy.storage.store import Store
from videopolicy.testing import toy_benchmark, toys
from videopolicy.training.planning import features_key, plan

DATA: Any = SimpleNamespace(fingerprint=lambda actions=True: f"data, actions {actions}")
RECIPE = """\
plugins: [benchmark.py, parts.py]
benchmark: {type: toy, task_names: [red, blue], max_steps: 12}
data: {type: robomimic-hdf5, episodes_per_task: 3}
policy: {type: toy}
train:
  - {name: policy, steps: 4, batch_size: 4}
"""
COMMENT = "# a remark\n"
PACKAGE = """
\"\"\"A plugin.\"\"\"
from typing import Literal
from videopolicy import DecoderComponent, hookimpl

class Mine(DecoderComponent):
    type: Literal["mine"] = "mine"
    horizon: int = 1

@hookimpl
def vpolicy_components():
    return [Mine]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe with a benchmark, its simulator and its policy in files of its own."""
    place = Path(toy_benchmark.__file__).parent
    shutil.copy(toys.__file__, tmp_path / "parts.py")
    shutil.copy(place / "toy_simulator.py", tmp_path)
    text = Path(toy_benchmark.__file__).read_text()
    (tmp_path / "benchmark.py").write_text(text)
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the core's sources, of which the keys are made."""
    copy = tmp_path / "core"
    shutil.copytree(identity.CORE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "CORE", copy)
    core_code.cache_clear()
    yield copy
    core_code.cache_clear()


def stage_keys(folder: Path) -> tuple[str, str]:
    """Of the only stage, and of the features that it would be trained on."""
    core_code.cache_clear()
    recipe = load_recipe(folder / "small.yaml")
    (planned,) = plan(recipe, DATA, Store(folder / "home"))
    return planned.key, features_key(recipe, planned, DATA)


def data_key(folder: Path) -> str:
    core_code.cache_clear()
    recipe = load_recipe(folder / "small.yaml")
    request = recipe.required_data().demonstrations()
    assert request is not None
    return _demonstrations_key(recipe, request)


def fingerprint(folder: Path) -> str:
    return digest(protocol_of(load_recipe(folder / "small.yaml").benchmark))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def remark(path: Path) -> None:
    path.write_text(COMMENT + path.read_text() + "\n\n" + COMMENT)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # one\n\n\ndef f(a, b):\n    return a + b\n",
        "x = 1\ndef f(a, b):\n    '''Adds.'''\n    return a + b\n",
        "'''Doc.'''\nx = (\n    1\n)\n'''What x is.'''\ndef f(a, b): return (a + b)\n",
    ],
)
def test_comments_docstrings_and_layout_stay_out(tmp_path: Path, text: str):
    path = tmp_path / "one.py"
    path.write_text("x = 1\ndef f(a, b):\n    return a + b\n")
    before = code_hash({"one": path})
    path.write_text(text)
    assert code_hash({"one": path}) == before


@pytest.mark.parametrize(
    "text",
    [
        "x = 2\ndef f(a, b):\n    return a + b\n",
        "x = 1.0\ndef f(a, b):\n    return a + b\n",
        "x = '1'\ndef f(a, b):\n    return a + b\n",
        "x = 1\ndef f(a, b):\n    return a - b\n",
        "x = 1\ndef f(b, a):\n    return a + b\n",
        "x = 1\ndef f(a, b=0):\n    return a + b\n",
        "def f(a, b):\n    return a + b\nx = 1\n",
        "x = 1\ndef f(a, b):\n    return a + b,\n",
        "this is no Python",
    ],
)
def test_everything_else_enters(tmp_path: Path, text: str):
    path = tmp_path / "one.py"
    path.write_text("x = 1\ndef f(a, b):\n    return a + b\n")
    before = code_hash({"one": path})
    path.write_text(text)
    assert code_hash({"one": path}) != before


def test_a_file_is_hashed_with_what_it_imports_from_its_folder(tmp_path: Path):
    (tmp_path / "first.py").write_text("import os, second\nfrom package.inner import thing\n")
    (tmp_path / "second.py").write_text("import third\n")
    (tmp_path / "package").mkdir()
    for name in ("third.py", "stranger.py", "package/__init__.py", "package/inner.py"):
        (tmp_path / name).write_text("thing = 1\n")
    found = with_neighbours(tmp_path / "first.py")
    assert sorted(found) == ["first.py", "package/__init__.py", "package/inner.py", "second.py", "third.py"]


def test_an_edited_file_plugin_trains_anew_and_a_remark_does_not(folder: Path):
    before = stage_keys(folder)
    remark(folder / "parts.py")
    assert stage_keys(folder) == before
    edit(folder / "parts.py", "horizon: int = 4", "horizon: int = 4\n    unused: int = 0")
    after = stage_keys(folder)
    assert after[0] != before[0] and after[1] != before[1]


def test_an_edited_file_is_what_runs(folder: Path):
    first = file_plugin(folder / "parts.py")
    edit(folder / "parts.py", "width: int = 8", "width: int = 9")
    second = file_plugin(folder / "parts.py")
    assert [plugin.components[0].model_fields["width"].default for plugin in (first, second)] == [8, 9]


def test_an_edited_module_of_an_editable_plugin_changes_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "editable_plugin"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(PACKAGE)
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "network.py").write_text("WIDTH = 8\n")
    (package / "tables.yaml").write_text("a: 1\n")
    (package / "published.yaml").write_text("numbers: 1\n")
    (package / "notes.md").write_text("old\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("mine", "editable_plugin.parts", "vpolicy")])

    def code() -> str:
        (plugin,) = installed_plugins()
        assert plugin.error is None
        entry = Registry([plugin]).get("decoder", "mine")
        (source,) = identity.identity(entry.model_validate({"type": "mine"}), Registry([plugin]))["sources"]
        return source

    before = code()
    assert before.startswith("editable_plugin ")
    remark(package / "deep" / "network.py")
    edit(package / "published.yaml", "1", "2")
    edit(package / "notes.md", "old", "new")
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "left.py").write_text("x = 1\n")
    assert code() == before
    edit(package / "deep" / "network.py", "8", "9")
    deeper = code()
    assert deeper != before
    edit(package / "tables.yaml", "1", "2")
    assert code() != deeper


def test_an_installed_plugin_is_known_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "installed_plugin.py").write_text(PACKAGE)
    info = tmp_path / "installed_plugin-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed-plugin\nVersion: 1.2\n")
    (info / "RECORD").write_text("installed_plugin.py,,\n")
    (info / "entry_points.txt").write_text("[vpolicy]\nmine = installed_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "installed_plugin", raising=False)
    monkeypatch.setattr(plugins, "entry_points", lambda group: PathDistribution(info).entry_points)
    (plugin,) = installed_plugins()
    assert plugin.code == "installed-plugin 1.2"
    (info / "RECORD").write_text("__editable__.pth,,\n")
    (plugin,) = installed_plugins()
    assert plugin.code.startswith("installed_plugin ") and "1.2" not in plugin.code


def test_our_own_plugins_are_editable_here_and_say_so():
    codes = {plugin.name: plugin.code for plugin in installed_plugins()}
    assert codes["core"].startswith("videopolicy 0")  # what of it matters enters keys by itself
    editable = [code for name, code in codes.items() if name != "core"]
    assert editable and all(len(code.split()[-1]) == 16 for code in editable)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("training/optimization.py", "import", "import os\nimport"),
        ("training/lightning_loop.py", "LOG_EVERY_STEPS", "LOG_EVERY"),
        ("components/modular_policy.py", "super().__init__()", "super().__init__(); self.other = 1"),
        ("parts/windows.py", "return", "return None or"),
    ],
)
def test_an_edit_of_the_training_path_trains_anew(folder: Path, core: Path, module: str, old: str, new: str):
    before, data, protocol = stage_keys(folder), data_key(folder), fingerprint(folder)
    edit(core / module, old, new)
    after = stage_keys(folder)
    assert after[0] != before[0] and after[1] != before[1]
    assert (data_key(folder), fingerprint(folder)) == (data, protocol)  # nothing is collected or evaluated again


def test_an_edit_of_the_report_or_a_remark_does_not(folder: Path, core: Path):
    before, data = stage_keys(folder), data_key(folder)
    remark(core / "training" / "lightning_loop.py")
    remark(core / "data" / "collection.py")
    edit(core / "report" / "page.py", "import", "import os\nimport")
    edit(core / "console" / "progress.py", "15.0", "16.0")
    assert (stage_keys(folder), data_key(folder)) == (before, data)


def test_collected_data_and_the_protocol_follow_the_simulator(folder: Path, core: Path):
    data, protocol, stages = data_key(folder), fingerprint(folder), stage_keys(folder)
    remark(folder / "toy_simulator.py")
    (folder / "stranger.py").write_text("x = 1\n")
    assert (data_key(folder), fingerprint(folder)) == (data, protocol)
    edit(folder / "toy_simulator.py", "REACH = 0.1", "REACH = 0.2")
    assert data_key(folder) != data and fingerprint(folder) != protocol
    assert stage_keys(folder) == stages  # a stage is keyed by what the data hold


def test_collected_data_follow_the_way_of_collecting(folder: Path, core: Path):
    data, protocol = data_key(folder), fingerprint(folder)
    edit(core / "data" / "collection.py", "TRIES_PER_ATTEMPT = 2", "TRIES_PER_ATTEMPT = 3")
    assert data_key(folder) != data and fingerprint(folder) == protocol


def test_the_environment_belongs_to_both(folder: Path, core: Path):
    requirements = folder / "requirements.txt"
    requirements.write_text("physics==1.0\n")
    edit(folder / "benchmark.py", 'environment="toy"', f'environment="toy", requirements=Path({str(requirements)!r})')
    data, protocol = data_key(folder), fingerprint(folder)
    requirements.write_text("# pinned\nphysics==1.0  # the engine\n\n")
    assert (data_key(folder), fingerprint(folder)) == (data, protocol)
    requirements.write_text("physics==1.1\n")
    assert data_key(folder) != data and fingerprint(folder) != protocol


def test_a_benchmark_without_a_simulator_has_a_protocol_and_a_key(folder: Path):
    text = (folder / "benchmark.py").read_text()
    start = text.index("    def launch")
    refusal = "    def launch(self):\n        import videopolicy\n        raise videopolicy.SimulationError('no')\n\n"
    (folder / "benchmark.py").write_text(text[:start] + refusal + text[text.index("    def protocol") :])
    assert protocol_of(load_recipe(folder / "small.yaml").benchmark)["simulator"] == "toy 1"
    assert data_key(folder)


@pytest.mark.parametrize("of", [stage_keys, data_key, fingerprint])
def test_places_do_not_enter(folder: Path, tmp_path_factory: pytest.TempPathFactory, of: Callable[[Path], Any]):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, elsewhere)
    assert of(elsewhere) == of(folder)
