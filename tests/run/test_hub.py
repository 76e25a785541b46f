"""``vpolicy push`` and loading by a name on the Hub: the Hub's own client, and a stand-in of the Hub's server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import vpolicy
from hub import StandIn, hub_running

import videopolicy
from videopolicy import HubError, RecipeError, StorageError, VpolicyError
from videopolicy.outcomes.intervals import span, wilson
from videopolicy.testing.toy_benchmark import ToyBenchmark

TOY = ToyBenchmark(task_names=("red", "blue"))
FILES = {
    *("README.md", "weights.safetensors", "config.json", "normalization.json", "frozen.json"),
    *("recipe.yaml", "identity.json", "provenance.json", "episodes.jsonl"),
}


@pytest.fixture(scope="module")
def run(uninterrupted: Any) -> Path:
    """A finished run."""
    return Path(uninterrupted.run_folder)


@pytest.fixture
def hub(uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("VPOLICY_HOME", str(uninterrupted.folder / "home"))
    monkeypatch.chdir(tmp_path)
    with hub_running(tmp_path / "cache") as running:
        yield running


@pytest.fixture(scope="module")
def published(uninterrupted: Any, run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that a push of the run puts on the Hub."""
    folder = tmp_path_factory.mktemp("published")
    with hub_running(folder / "cache") as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VPOLICY_HOME", str(uninterrupted.folder / "home"))
        patch.chdir(folder)
        assert pushed(run).returncode == 0
        return running.repositories["alice/policy"].files


def pushed(run: Path, *options: str, name: str = "alice/policy", token: str = "hf_alice") -> Any:
    return vpolicy(Path.cwd(), "push", str(run), name, *options, **({"HF_TOKEN": token} if token else {}))


def seen() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    images = {one.name: draw.integers(0, 256, (one.height, one.width, 3), np.uint8) for one in TOY.spaces().cameras}
    return {"images": images, "state": draw.uniform(-1, 1, 2), "instruction": TOY.tasks()[0].instruction}


def test_a_pushed_run_acts_as_the_run_does(
    run: Path, hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = pushed(run, "--license", "mit")
    assert done.returncode == 0, done.stderr
    there = hub.repositories["alice/policy"]
    assert not there.private and set(there.files) == {*FILES, ".gitattributes"} and len(there.commits) == 2
    assert f"{hub.url}/alice/policy: 9 files" in done.stdout and there.commits[-1].sha[:12] in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert there.files["episodes.jsonl"] == (run / "episodes.jsonl").read_bytes()

    local = videopolicy.load(run, "cpu")
    here = local.act(**seen())
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "nothing"))
    loaded = videopolicy.load("alice/policy", "cpu")
    assert np.array_equal(loaded.act(**seen()), here) and np.abs(here).max() > 0.01
    red = ToyBenchmark(task_names=("red",))
    records = [
        [
            one.model_dump(exclude={"seconds"})
            for one in videopolicy.evaluate(policy, red, 1, workers=1, quiet=True).records
        ]
        for policy in (loaded, local)
    ]
    assert len(records[0]) == 1 and records[0] == records[1]

    hub.close()
    assert np.array_equal(videopolicy.load("alice/policy", "cpu").act(**seen()), here), "from the local cache"
    shutil.rmtree(hub.cache)
    with pytest.raises(HubError, match=r"'alice/policy', which is no folder here, .* cannot be reached"):
        videopolicy.load("alice/policy")


def test_a_revision_of_a_private_repository_is_loaded_with_a_token_that_may_read(
    published: dict[str, bytes], hub: StandIn, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub.add("alice/policy", published, private=True)
    hub.add("alice/policy", {"README.md": b"taken back"})
    with pytest.raises(HubError, match="no such repository that may be read from here"):
        videopolicy.load(f"alice/policy@{first}", "cpu")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    chunk = videopolicy.load(f"alice/policy@{first}", "cpu").act(**seen())
    assert np.array_equal(chunk, videopolicy.load(run, "cpu").act(**seen()))
    with pytest.raises(HubError, match=r"'alice/policy' on the Hub holds no policy"):
        videopolicy.load("alice/policy")


def test_the_card_says_what_the_records_and_the_provenance_say(
    run: Path, published: dict[str, bytes], hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = published["README.md"].decode()
    head = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert head is not None
    data = yaml.safe_load(head[1])
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("unknown", "videopolicy", "robotics")
    episodes = videopolicy.results(run)
    trained = episodes[episodes.policy == "trained"]
    (results,) = [one["results"] for one in data["model-index"]]
    values = {one["dataset"]["config"]: one["metrics"][0]["value"] for one in results}
    assert values["mean"] == pytest.approx(100 * trained.success.mean(), abs=0.05)
    for task in ("red", "blue"):
        of_task = trained[trained.task == task]
        interval = span(wilson(int(of_task.success.sum()), len(of_task)))
        row = next(line for line in card.splitlines() if line.startswith(f"| {task} "))
        assert f"{interval} %" in row and f" {len(of_task)} " in row and row.count("n = 5") == 2
    (protocol,) = set(trained.protocol)
    provenance = json.loads((run / "provenance.json").read_text())
    named = [protocol, "scripted expert", "12 demonstrations", *provenance["data_remarks"], provenance["commit"] or ""]
    named += [stage["name"] for stage in provenance["stages"]] + [f"torch {provenance['versions']['torch']}"]
    named += ["has named none", "vpolicy serve alice/policy"]
    assert [text for text in named if text not in card] == []
    hub.add("alice/policy", published)
    (example,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["chunk"].shape == (4, 2)


def test_a_second_push_replaces_the_first(run: Path, hub: StandIn, published: dict[str, bytes]) -> None:
    stale = {**published, "plugins/old.py": b"1", "picture.png": b"2", "weights.safetensors": b"3"}
    hub.add("alice/policy", stale)
    assert pushed(run, "--private").returncode == 2, "it is public"
    assert len(hub.repositories["alice/policy"].commits) == 1
    assert pushed(run).returncode == 0
    there = hub.repositories["alice/policy"]
    assert there.files == {**published, "picture.png": b"2"}
    assert pushed(run).returncode == 0 and len(there.commits) == 2, "nothing has changed"
    assert pushed(run, "--private", name="alice/secret").returncode == 0
    assert hub.repositories["alice/secret"].private
    with pytest.raises(HubError, match="no such repository that may be read from here"):
        videopolicy.load("alice/secret")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"name": "policy"}, "'policy' is no name on the Hub", "USER/NAME"),
        ({"name": "alice/a--b"}, "'alice/a--b' is no name on the Hub", "USER/NAME"),
        ({"name": "alice/policy@main"}, "is no name on the Hub", "USER/NAME"),
        ({"token": ""}, "there is no token", "hf auth login"),
        ({"token": "hf_wrong"}, "does not accept the token", "settings/tokens"),
        ({"token": "hf_bob"}, "has no right to it (You don't have the rights to write", "write access to 'alice'"),
        ({"token": "hf_reader"}, "has no right to it", "write access to 'alice'"),
        ({"name": "alice/other"}, "it holds something else (model.safetensors)", "another name"),
        ({"options": ("--license", "free")}, '"license" must be one of', "Correct"),
        ({"failing": {"/lfs/": 403}}, "injected 403", "write access"),
        ({"failing": {"/commit/": 500}}, "answers 500 (injected 500)", "later"),
    ],
)
def test_what_cannot_be_pushed_is_said_in_one_message(
    run: Path, hub: StandIn, changes: dict[str, Any], message: str, hint: str
) -> None:
    hub.add("alice/other", {"model.safetensors": b"1", "README.md": b"2"})
    hub.failing = changes.pop("failing", {})
    done = pushed(run, *changes.pop("options", ()), **changes)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = done.stderr[done.stderr.index("vpolicy: ") :]
    assert message in said and hint in said and said.count("vpolicy: ") == 1
    assert {name: len(one.commits) for name, one in hub.repositories.items() if len(one.commits) > 1} == {}


def test_an_unfinished_run_is_not_published(run: Path, hub: StandIn, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("videos", "trajectories"))
    lines = (copy / "episodes.jsonl").read_text().splitlines(keepends=True)
    (copy / "episodes.jsonl").write_text("".join(line for line in lines if '"random"' not in line))
    done = pushed(copy)
    assert done.returncode == 2 and "is not finished: policy 'random' has not been evaluated" in done.stderr
    provenance = json.loads((copy / "provenance.json").read_text())
    (copy / "provenance.json").write_text(json.dumps({**provenance, "stages": provenance["stages"][:1]}))
    done = pushed(copy)
    assert done.returncode == 2 and "stage 'policy' has not finished" in done.stderr
    (copy / "episodes.jsonl").write_text("".join([*lines, "{}\n"]))
    done = pushed(copy)
    assert done.returncode == 2 and "is damaged" in done.stderr and "episodes.jsonl:" in done.stderr
    hub.close()
    done = pushed(run)
    assert done.returncode == 2 and f"{hub.url} cannot be reached" in done.stderr
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alice/nothing", "no such repository that may be read from here"),
        ("alice/policy@v2", "it has no revision 'v2'"),
        ("alice/foreign", "holds no policy of videopolicy"),
        ("alice/half", r"incomplete policy: it has no normalization\.json"),
        ("alice/busy", "answers 503"),
    ],
)
def test_what_the_hub_does_not_give_is_said(hub: StandIn, published: dict[str, bytes], name: str, message: str) -> None:
    hub.add("alice/policy", {"recipe.yaml": b""})
    hub.add("alice/foreign", {"model.safetensors": b"1", "pytorch_model.bin": b"2"})
    hub.add("alice/half", {file: data for file, data in published.items() if file != "normalization.json"})
    hub.failing = {"alice/busy": 503}
    with pytest.raises(HubError, match=message) as caught:
        videopolicy.load(name)
    assert caught.value.hint and not list(hub.cache.rglob("*.bin"))


def test_a_local_folder_wins(hub: StandIn, published: dict[str, bytes], tmp_path: Path) -> None:
    hub.add("runs/mine", published)
    (tmp_path / "runs" / "other").mkdir(parents=True)
    (tmp_path / "runs" / "other" / "recipe.yaml").write_text("name: other\n")
    with pytest.raises(StorageError, match="There is no run folder runs/mine") as caught:
        videopolicy.load("runs/mine")
    assert "Runs here: runs/other" in caught.value.hint and "As runs/mine@main" in caught.value.hint
    (tmp_path / "runs" / "mine").mkdir()
    with pytest.raises(StorageError, match="runs/mine is no run folder"):
        videopolicy.load("runs/mine")
    done = vpolicy(tmp_path, "serve", "runs/mine", "--port", "0")
    assert done.returncode == 2 and "runs/mine is no run folder" in done.stderr
    assert hub.asked == []
    assert videopolicy.load("runs/mine@main", "cpu").name == "small"


def test_what_was_tampered_with_is_not_loaded(hub: StandIn, published: dict[str, bytes]) -> None:
    weights = published["weights.safetensors"]
    for changes, message in (
        ({"weights.safetensors": weights[:-100]}, "cannot be read"),
        ({"frozen.json": b"["}, r"frozen\.json cannot be read"),
        ({"recipe.yaml": published["recipe.yaml"] + b"unknown: 1\n"}, "not a valid recipe"),
    ):
        hub.add("alice/policy", {**published, **changes})
        with pytest.raises(VpolicyError, match=message):
            videopolicy.load("alice/policy")


def test_python_files_go_with_the_recipe_and_run_with_trust_only(
    run: Path, hub: StandIn, published: dict[str, bytes], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("videos", "trajectories"))
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nfrom typing import Literal\nfrom videopolicy import TextComponent\n"
        "Path('trace').touch()\n"
        "class Mine(TextComponent):\n    type: Literal['mine'] = 'mine'\n"
    )
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    recipe["plugins"].append(str(tmp_path / "mine.py"))
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = pushed(copy)
    assert done.returncode == 2 and "--trust" in done.stderr and hub.repositories == {}
    assert pushed(copy, "--trust").returncode == 0
    files = hub.repositories["alice/policy"].files
    assert files["plugins/mine.py"] == (tmp_path / "mine.py").read_bytes()
    assert yaml.safe_load(files["recipe.yaml"])["plugins"] == [*recipe["plugins"][:-1], "plugins/mine.py"]
    assert b"videopolicy.load('alice/policy', trust=True)" in files["README.md"]
    (tmp_path / "mine.py").unlink()
    (tmp_path / "trace").unlink()
    with pytest.raises(RecipeError, match=r"which were not run: .*plugins/mine\.py"):
        videopolicy.load("alice/policy")
    assert not (tmp_path / "trace").exists()
    assert videopolicy.load("alice/policy", "cpu", trust=True).name == "small" and (tmp_path / "trace").exists()
