"""Finding components: what is installed, what is broken, and what two plugins call alike."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

import pytest

from tests.support.command import vpolicy
from videopolicy.components import plugins
from videopolicy.components.kinds import Component, DecoderComponent, TextComponent
from videopolicy.components.plugins import Plugin, file_plugin, installed_plugins
from videopolicy.components.registry import Registry, current_registry
from videopolicy.errors import PluginError
from videopolicy.testing import toys


class OtherDecoder(DecoderComponent):
    type: Literal["toy"] = "toy"
    horizon: int = 1


TOYS = Plugin("toys", "toys 1.0", toys.vpolicy_components())


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **modules: str) -> None:
    """Pretend that each module is installed with an entry point of its name."""
    points = []
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
        points.append(EntryPoint(name, name, "vpolicy"))
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)


PROVIDES = """
from typing import Literal
from videopolicy import DecoderComponent, hookimpl

class Mine(DecoderComponent):
    type: Literal["{name}"] = "{name}"
    horizon: int = 1

@hookimpl
def vpolicy_components():
    return [Mine]
"""


def test_names_are_looked_up_by_kind() -> None:
    registry = Registry([TOYS])
    assert registry.get("decoder", "toy") is toys.ToyDecoder
    assert registry.get("policy", "toy") is toys.ToyPolicy
    assert registry.names("decoder") == ["toy"]
    assert {entry.component for entry in registry.entries()} == set(toys.vpolicy_components())


def test_policies_and_video_models_are_learners() -> None:
    class Policy(toys.ToyPolicy):
        type: Literal["reflex"] = "reflex"

    registry = Registry([TOYS, Plugin("more", "more 1.0", [Policy])])
    assert registry.get("learner", "reflex") is Policy
    assert registry.get("learner", "toy") is toys.ToyBackbone
    with pytest.raises(PluginError, match=r"no policy named 'dot'\. Installed: reflex, toy"):
        registry.get("policy", "dot")
    with pytest.raises(PluginError, match=r"no learner named 'dot'\. Installed: reflex, toy"):
        registry.get("learner", "dot")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    registry = Registry([TOYS, Plugin("more", "more 1.0", [])])
    with pytest.raises(PluginError) as caught:
        registry.get("decoder", "tyo")
    assert "no decoder named 'tyo'. Did you mean 'toy'? Installed: toy." in str(caught.value)
    assert "vpolicy plugins" in caught.value.hint
    with pytest.raises(PluginError, match=r"no text named 'toy'\. Installed: none\. \('toy' is of kind backbone\.\)"):
        registry.get("text", "toy")


def test_two_plugins_with_one_name_are_both_named() -> None:
    with pytest.raises(PluginError) as caught:
        Registry([TOYS, Plugin("others", "others 2.0", [OtherDecoder])])
    message = str(caught.value)
    assert "a decoder named 'toy'" in message
    assert "toys (toys 1.0)" in message
    assert "others (others 2.0)" in message


def test_an_extended_registry_leaves_the_first_alone() -> None:
    registry = Registry([Plugin("others", "others 2.0", [OtherDecoder])])
    extended = registry.extended([Plugin("policies", "1", [toys.ToyPolicy])])
    assert extended.names("policy") == ["toy"]
    assert registry.names("policy") == []
    assert extended.extended(extended.plugins).names("policy") == ["toy"]


def test_a_component_of_no_kind_is_refused() -> None:
    class Kindless(Component):
        type: Literal["kindless"] = "kindless"

    with pytest.raises(PluginError, match="Kindless from odd is of no known kind"):
        Registry([Plugin("odd", "odd 1", [Kindless])])


def test_a_component_without_a_single_name_is_refused() -> None:
    class Nameless(DecoderComponent):
        horizon: int = 1

    with pytest.raises(PluginError, match="has no single name"):
        Registry([Plugin("odd", "odd 1", [Nameless])])


def test_the_core_is_a_plugin_like_the_others() -> None:
    found = {plugin.name: plugin for plugin in installed_plugins()}
    assert "modular" in [component.name() for component in found["core"].components]
    assert all(plugin.error is None for plugin in found.values())


def test_a_broken_plugin_harms_nobody_and_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        tmp_path,
        a_good_plugin=PROVIDES.format(name="good"),
        b_broken_plugin="import a_module_that_is_not_there",
        c_odd_plugin="from videopolicy import hookimpl\n@hookimpl\ndef vpolicy_components():\n    return 1 / 0",
    )
    registry = Registry(installed_plugins())
    assert registry.names("decoder") == ["good"]
    with pytest.raises(PluginError) as caught:
        registry.get("decoder", "bad")
    message = str(caught.value)
    assert "Plugin b_broken_plugin (unknown) could not be loaded: ModuleNotFoundError" in message
    assert "a_module_that_is_not_there" in message
    assert "Plugin c_odd_plugin (unknown) could not be loaded: ZeroDivisionError" in message


def test_a_file_gives_every_component_that_it_defines(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PROVIDES.format(name="mine").split("@hookimpl")[0])
    plugin = file_plugin(path)
    assert [component.name() for component in plugin.components] == ["mine"]
    assert plugin.distribution == "file"
    assert file_plugin(path).components[0] is plugin.components[0]
    assert file_plugin(path).source_hash == plugin.source_hash
    path.write_text(path.read_text() + "# changed\n")
    assert file_plugin(path).source_hash != plugin.source_hash


def test_a_file_with_the_hook_gives_what_the_hook_says(tmp_path: Path) -> None:
    path = tmp_path / "hooked.py"
    path.write_text(PROVIDES.format(name="hooked") + "\nclass Hidden(Mine):\n    type: Literal['hidden'] = 'hidden'\n")
    assert [component.name() for component in file_plugin(path).components] == ["hooked"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist"),
        ("x = 1", "defines no component"),
        ("x = 1\nimport a_module_that_is_not_there", "faulty.py:2: .*cannot be imported: ModuleNotFoundError"),
        ("x = 1\n\ndef broken(:", "faulty.py:3: .*cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "faulty.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PluginError, match=says) as caught:
        file_plugin(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_two_packages_may_call_their_plugin_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, one=PROVIDES.format(name="first"), two=PROVIDES.format(name="second"))
    points = [EntryPoint("same", name, "vpolicy")._for(_Package(name)) for name in ("one", "two")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    found = installed_plugins()
    assert [plugin.distribution for plugin in found] == ["one 1.0", "two 1.0"]
    registry = Registry(found)
    assert registry.names("decoder") == ["first", "second"]
    assert {entry.plugin.distribution for entry in registry.extended([]).entries()} == {"one 1.0", "two 1.0"}


class _Package:
    """As much of an installed package as is asked for."""

    version = "1.0"

    def __init__(self, name: str) -> None:
        self.name = name


def test_a_name_that_two_packages_provide_harms_only_who_wants_it() -> None:
    other = Plugin("others", "others 2.0", [OtherDecoder, OtherText])
    registry = Registry()
    for plugin in (TOYS, other):
        registry.add(plugin, strict=False)
    assert registry.get("policy", "toy") is toys.ToyPolicy and registry.get("text", "mine") is OtherText
    for asked in (registry, registry.extended([])):
        with pytest.raises(PluginError, match=r"a decoder named 'toy': toys \(toys 1\.0\) and others \(others 2\.0\)"):
            asked.get("decoder", "toy")
    assert "Two plugins provide a decoder named 'toy'" in other.trouble


class OtherText(TextComponent):
    type: Literal["mine"] = "mine"


BROKEN = {
    "unmarked": (PROVIDES.replace("@hookimpl\n", ""), "defines vpolicy_components without @hookimpl"),
    "misnamed": (PROVIDES.replace("def vpolicy_components", "def vpolicy_component"), "marks vpolicy_component with"),
    "near": (
        PROVIDES.replace("@hookimpl\ndef vpolicy_components", "def vpolicy_component"),
        "defines vpolicy_component without @hookimpl",
    ),
    "asking": (PROVIDES.replace("components()", "components(names)"), "names"),
    "nothing": ("x = 1", "provides no component"),
    "text": (PROVIDES.replace("[Mine]", "['Mine']"), "returns 'Mine', which is no component class"),
    "object": (PROVIDES.replace("[Mine]", "[Mine()]"), "which is no component class"),
    "none": (PROVIDES.replace("return [Mine]", "return 3"), "TypeError"),
    "ends": ("raise SystemExit(3)", "SystemExit(3)"),
    "missing": ("import a_module_that_is_not_there", "ModuleNotFoundError"),
    "kindless": (
        PROVIDES.replace("(DecoderComponent)", "(Component)"),
        "no known kind",
    ),
    "nameless": (PROVIDES.replace('    type: Literal["{name}"] = "{name}"\n', ""), "no single name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named_once_and_ends_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, says = BROKEN[name]
    text = "from videopolicy.components.kinds import Component\n" + text
    install(monkeypatch, tmp_path, **{f"broken_{name}": text.format(name="mine")}, fine=PROVIDES.format(name="fine"))
    current_registry.cache_clear()
    try:
        listed = vpolicy(tmp_path, "plugins")
        assert listed.returncode == 0 and "fine" in listed.stdout
        told = " ".join(listed.stdout.split())
        assert says in told and told.count(f"Plugin broken_{name} (unknown)") == 1
        assert current_registry().names("decoder") == ["fine"]
        other = vpolicy(tmp_path, "env", "list")
        assert (other.returncode, other.stderr.count(f"Plugin broken_{name} (unknown)")) == (0, 1)
        wanted = vpolicy(tmp_path, "check", "mine")
        assert (wanted.returncode, wanted.stderr.count(f"Plugin broken_{name} (unknown)")) == (2, 1)
    finally:
        monkeypatch.undo()
        current_registry.cache_clear()
        current_registry()


@pytest.mark.parametrize("name", ["unmarked", "misnamed", "near", "asking", "text", "none", "ends"])
def test_a_file_with_such_a_hook_is_told_so(name: str, tmp_path: Path) -> None:
    text, says = BROKEN[name]
    (tmp_path / "mine.py").write_text(text.format(name="mine"))
    with pytest.raises(PluginError) as caught:
        file_plugin(tmp_path / "mine.py")
    assert says in str(caught.value) and "mine.py" in str(caught.value)


def test_check_takes_a_file_and_a_name_that_is_also_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("videopolicy.testing.running.run_contract", lambda *call: asked.append(call[:3]) or 0)
    (tmp_path / "mine.py").write_text(PROVIDES.format(name="mine"))
    assert vpolicy(tmp_path, "check", "mine.py", "horizon=3").returncode == 0
    assert vpolicy(tmp_path, "check", "./mine.py", "mine").returncode == 0
    (tmp_path / "modular").mkdir()
    (tmp_path / "metaworld").mkdir()
    assert vpolicy(tmp_path, "check", "metaworld").returncode == 0
    assert asked == [("decoder", "mine", {"horizon": 3}), ("decoder", "mine", {}), ("benchmark", "metaworld", {})]
    wrong = vpolicy(tmp_path, "check", "mine.py", "mime")
    assert wrong.returncode == 2 and "Did you mean 'mine'?" in wrong.stderr
    assert vpolicy(tmp_path, "check", "other.py").returncode == 2
    (tmp_path / "elsewhere").mkdir()
    folder = vpolicy(tmp_path, "check", "elsewhere")
    assert folder.returncode == 2 and "elsewhere is a folder, not a file." in folder.stderr


def test_misspelled_options_of_check_get_near_names(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PROVIDES.format(name="mine"))
    for what in (("mine.py", "horzon=3"), ("word-text", "widht=3")):
        result = vpolicy(tmp_path, "check", *what)
        near = "horizon" if what[0] == "mine.py" else "width"
        assert result.returncode == 2 and f"Did you mean '{near}'?" in result.stderr
