"""What a recipe lacks here is said at once: simulator, data, weights; nothing is fetched before all were looked at."""

from __future__ import annotations

import socket
from pathlib import Path

import huggingface_hub
import pytest
from command import vpolicy
from toy_recipes import linear

from videopolicy.console.progress import Reporter
from videopolicy.data.missing import MissingInputsError, ensure_nothing_missing, missing
from videopolicy.errors import DataError, SimulationError, WeightsError
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.running import run
from videopolicy.storage.store import Store
from videopolicy.testing import toy_benchmark

ROOT = Path(__file__).resolve().parents[2]
FETCHES = """
from pathlib import Path
from typing import Literal

from videopolicy.parts.weights import pretrained_folder
from videopolicy.testing.toys import ToyPolicy


class Fetches(ToyPolicy):
    type: Literal["fetches"] = "fetches"
    weights: str = "owner/name"

    def fetch(self):
        folder = pretrained_folder(self.weights, "The toy", ["model.safetensors"])
        Path("fetched").write_text(str(folder))
"""
CHECKS = """
import sys
from pathlib import Path

sys.path.insert(0, TOYS)
from toy_simulator import ToySimulator


def check_rendering():
    raise RuntimeError("no rendering backend works (egl: gone)")
"""


class Hub:
    """Counts what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, there: bool = True) -> None:
        self.asked: list[str] = []
        self.fetched: list[str] = []
        self.there = there

        def model_info(api: object, name: str, **options: object) -> object:
            self.asked.append(name)
            if not self.there:
                raise ConnectionError("the hub is away")
            siblings = [type("File", (), {"rfilename": "model.safetensors"})()]
            return type("Info", (), {"siblings": siblings})()

        def snapshot_download(name: str, local_files_only: bool = False, **options: object) -> str:
            if local_files_only:
                raise FileNotFoundError("not in the cache")
            self.fetched.append(name)
            return "/somewhere"

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))
    (tmp_path / "fetches.py").write_text(FETCHES, encoding="utf-8")
    text = linear("episodes: 2, execute: 3").replace("policy: {type: toy}", "policy: {type: fetches}")
    (tmp_path / "small.yaml").write_text(text.replace("plugins: [", "plugins: [fetches.py, "), encoding="utf-8")

    def load(*overrides: str) -> Recipe:
        return load_recipe(tmp_path / "small.yaml", overrides)

    return load


def test_a_simulator_that_is_to_be_cloned_data_and_weights_are_told_all_three_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def connect(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **options: connect(None, address))
    recipe = str(ROOT / "recipes" / "vpp_calvin.yaml")
    variables = {"VPOLICY_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hub")}
    variables |= {"VPOLICY_CALVIN_SOURCE": "", "VPOLICY_CALVIN_PYTHON": ""}
    done = vpolicy(tmp_path, "run", recipe, **variables)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = done.stderr
    places = [
        said.index(text)
        for text in (
            "The environment of 'calvin' has to be made",
            "https://github.com/mees/calvin_env at commit 797142c588c2 has to be cloned.",
            "The dataset datasets/task_ABC_D does not exist.",
            "'yjguo/svd-robot-calvin-ft' is no folder on this machine and would be downloaded",
            "'openai/clip-vit-base-patch32' is no folder on this machine and would be downloaded",
        )
    ]
    assert places == sorted(places)
    assert "nothing has been downloaded" in said
    assert tried == [] and not (tmp_path / "home").exists()
    checked = vpolicy(tmp_path, "check", recipe, **variables)
    assert checked.returncode == 0 and "Not on this machine:" in checked.stdout
    assert "would be downloaded" in checked.stdout and tried == []


def test_what_is_missing_beside_weights_keeps_them_from_being_fetched(load, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(MissingInputsError) as caught:
        run(load("data.path=nowhere", "data.episodes_per_task=1"), tmp_path / "runs", Reporter(quiet=True))
    assert "The dataset nowhere does not exist." in caught.value.message
    assert "'owner/name' is no folder on this machine" in caught.value.message and caught.value.exit_code == 2
    assert hub.asked == hub.fetched == [] and not (tmp_path / "fetched").exists()


def test_one_missing_thing_is_its_own_error(load, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    here = f"policy.weights={tmp_path / 'local'}"
    with pytest.raises(DataError, match="The dataset nowhere does not exist"):
        ensure_nothing_missing(load(here, "data.path=nowhere"), Store())
    with pytest.raises(WeightsError, match="the folder /no/where does not exist"):
        ensure_nothing_missing(load("policy.weights=/no/where"), Store())
    with pytest.raises(WeightsError, match="there are no weights in /no/where"):
        ensure_nothing_missing(load(here, "train.policy.init_from=/no/where"), Store())
    assert missing(load(here), Store()) == []
    assert hub.asked == hub.fetched == []


def test_the_hub_is_asked_first_and_then_everything_is_fetched(load, hub: Hub, tmp_path: Path) -> None:
    said: list[str] = []
    ensure_nothing_missing(load(), Store(), say=said.append)
    assert said == ["weights: The toy: 'owner/name' is no folder on this machine and would be downloaded from the hub."]
    assert hub.asked == ["owner/name"] and hub.fetched == []
    run(load("eval.episodes=0"), tmp_path / "runs", Reporter(quiet=True))
    assert hub.fetched and (tmp_path / "fetched").read_text() == "/somewhere"
    hub.there = False
    with pytest.raises(WeightsError, match=r"the hub cannot give it \(the hub is away\)"):
        ensure_nothing_missing(load(), Store())


def test_a_machine_that_cannot_render_is_told_with_the_rest(load, hub: Hub, tmp_path: Path, monkeypatch) -> None:
    module = tmp_path / "renders.py"
    module.write_text(CHECKS.replace("TOYS", repr(str(Path(toy_benchmark.__file__).parent))), encoding="utf-8")
    recipe = load("data.path=nowhere")
    kind = type(recipe.benchmark)
    launch = kind.launch
    monkeypatch.setattr(kind, "launch", lambda self: launch(self).model_copy(update={"module": module}))
    assert [one.kind for one in missing(recipe, Store())] == ["data", "weights"]
    found = missing(recipe, Store(), rendering=True)
    assert [(one.kind, one.comes) for one in found] == [("simulator", False), ("data", False), ("weights", True)]
    assert isinstance(found[0].error, SimulationError) and "egl: gone" in found[0].text
    assert "cannot render here" in found[0].text
    trained = load("data.path=nowhere", "eval.episodes=0")
    assert [one.kind for one in missing(trained, Store(), rendering=True)] == ["data", "weights"]


def test_a_benchmark_that_does_not_say_how_its_simulator_starts(load, hub: Hub, monkeypatch) -> None:
    recipe = load()
    monkeypatch.delattr(type(recipe.benchmark), "launch")
    (first, *_) = missing(recipe, Store())
    assert (first.kind, first.comes) == ("simulator", False)
    assert "Benchmark 'toy' does not say how its simulator is started." in first.text


def test_rows_of_an_ablation_that_lack_something_are_told_before_any_trains(load, hub: Hub, tmp_path: Path) -> None:
    load()
    rows = [f"- {{name: {name}, overrides: [data.path={name}]}}" for name in ("one", "two")]
    (tmp_path / "rows.yaml").write_text("base: small.yaml\nsource: N\nrows:\n" + "\n".join(rows), encoding="utf-8")
    done = vpolicy(tmp_path, "ablate", "rows.yaml")
    said = done.stdout + done.stderr
    assert (
        done.returncode == 2 and "The dataset one does not exist" in said and "The dataset two does not exist" in said
    )
    assert hub.fetched == [] and not (tmp_path / "home").exists()
