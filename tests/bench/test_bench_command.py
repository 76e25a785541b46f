"""``vpolicy bench`` as a user sees it. Nothing here depends on how long anything takes."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

from videopolicy.bench import Settings, bench, sweep
from videopolicy.bench.results import BenchResult
from videopolicy.bench.subject import trained_stages
from videopolicy.cli.main import main
from videopolicy.console.progress import Reporter
from videopolicy.data.preparation import prepare_data
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.store import Store
from videopolicy.training.planning import plan
from videopolicy.training.session import Session
from videopolicy.training.stages import train

ROOT = Path(__file__).resolve().parents[2]
FEW = ["--warmup", "1", "--calls", "3", "--quiet", "--device", "cpu"]
FEW_SETTINGS = Settings("cpu", batch_sizes=(1,), warmup=1, calls=2)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VPOLICY_HOME", str(tmp_path / "home"))


@pytest.fixture
def vpolicy(monkeypatch, capsys):
    """Runs the command; exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vpolicy", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
            sys.exit(0)
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return call


def test_measures_everything_and_writes_it_down(vpolicy, modular, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = vpolicy("bench", modular, *FEW, "--batch-sizes", "1,3", "--json", tmp_path / "of" / "it.json")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100 and "action loop" in out and "weights: random" in out
    facts = json.loads((tmp_path / "of" / "it.json").read_text())
    assert set(facts) == {field.name for field in dataclasses.fields(BenchResult)}
    empty = [name for name, value in facts.items() if value in (None, [], {})]
    assert empty == ["compiled"]
    assert facts["latency"]["calls"] == len(facts["latency"]["seconds"]) == 3
    assert facts["latency"]["fastest"] <= facts["latency"]["median"] <= facts["latency"]["p95"]
    assert sum(facts["split"]["seconds"].values()) == pytest.approx(facts["split"]["total"])
    assert [row["batch_size"] for row in facts["throughput"]] == [1, 3]
    assert all(
        row["chunks_per_second"] * row["median"] == pytest.approx(row["batch_size"]) for row in facts["throughput"]
    )
    assert facts["stages"][0]["trainable_parameters"] == sum(facts["parameters"].values())
    assert facts["stages"][0]["samples_per_second"] > 0 and facts["stages"][0]["peak_memory_bytes"] > 0
    assert 0 < facts["share_of_peak"] < 1


def test_a_whole_policy_needs_no_extractor(vpolicy, whole):
    code, out, _ = vpolicy("bench", whole, *FEW, "--batch-sizes", "1", "--dtype", "bfloat16")
    assert code == 0 and "60 FLOP" in out and "policy.linear" in out


@pytest.mark.slow
def test_compiled_modules_compute_the_same(vpolicy, whole, tmp_path):
    json_file = tmp_path / "it.json"
    arguments = ["--compile", "--no-training", "--batch-sizes", "1", "--json", json_file]
    assert vpolicy("bench", whole, *FEW, *arguments)[0] == 0
    compiled = json.loads(json_file.read_text())["compiled"]
    assert compiled["modules"] == ["policy.linear"]
    assert compiled["largest_difference"] < 1e-5


def test_published_sizes_are_counted_from_shapes_without_a_download(vpolicy, no_network, tmp_path):
    json_file = tmp_path / "it.json"
    code, out, _ = vpolicy("bench", ROOT / "recipes" / "vpp_metaworld.yaml", "--meta", "--json", json_file)
    assert code == 0 and no_network == []
    assert "1,524,623,082" in out and "shapes only" in out
    facts = json.loads(json_file.read_text())
    assert facts["latency"] is None and facts["throughput"] == []
    # The text encoder of 63,428,096 weights is frozen in both stages, and the video model in the second.
    assert facts["stages"][0]["trainable_parameters"] == 1_524_623_082
    assert facts["stages"][1]["trainable_parameters"] == 16_727_424 + 21_518_596
    assert facts["operations"]["video forward"] > 1e12


def test_random_weights_need_no_download(pretrained, no_network):
    result = bench(load_recipe(pretrained), FEW_SETTINGS, Reporter(quiet=True))
    assert result.weights == "random" and no_network == []
    assert result.split is not None and {"text", "encode", "video forward", "former"} <= result.split.seconds.keys()
    assert [stage.cached_features for stage in result.stages] == [False, True]
    assert all(stage.step_seconds for stage in result.stages)


def test_varying_a_field_without_trained_weights(vpolicy, modular, tmp_path):
    json_file = tmp_path / "it.json"
    code, out, _ = vpolicy("bench", modular, *FEW, "--vary", "policy.decoder.steps=1,2,4", "--json", json_file)
    rows = json.loads(json_file.read_text())["rows"]
    assert code == 0 and "action error" not in out
    assert [row["value"] for row in rows] == [1, 2, 4]
    assert [row["action_error"] for row in rows] == [None] * 3
    counts = [row["operations"] for row in rows]
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


def test_trained_weights_are_found_and_compared_with_the_demonstrations(modular, tmp_path):
    reporter, store = Reporter(quiet=True), Store()
    recipe = load_recipe(modular)
    dataset, _ = prepare_data(recipe, store, reporter)
    assert trained_stages(recipe, None, store, Reporter(quiet=True)) is None
    for one in plan(recipe, dataset, store):
        train(Session(recipe, store, torch.device("cpu"), reporter), one, dataset)
    found = sweep(modular, [], "policy.decoder.steps", [1, 4], FEW_SETTINGS, reporter)
    assert found.weights == "trained by this recipe" and "windows of the split 'train'" in found.windows
    again = sweep(modular, [], "policy.decoder.steps", [4], FEW_SETTINGS, reporter)
    one, four = (row.action_error for row in found.rows)
    assert one is not None and four is not None and one != four and 0 < one < 5
    assert again.rows[0].action_error == four, "the error depends on what was measured before it"
    longer = load_recipe(modular, ["train.policy.steps=9"])
    assert trained_stages(longer, None, store, Reporter(quiet=True)) is None, "weights of another training were taken"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dtype", "float8"], "no dtype 'float8'"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--batch-sizes", "one"], "no list of batch sizes"),
        (["--batch-sizes", "0"], "must be at least 1"),
        (["--threads", "0"], "must be at least 1"),
        (["--vary", "policy.decoder.steps"], "names no field with values"),
        (["--vary", "policy.decoder.stepps=1,2"], "Did you mean 'steps'?"),
        (["--vary", "policy.decoder.steps=1,many"], "override 'policy.decoder.steps=\"many\"'"),
        (["--run", "nowhere"], "There is no run folder nowhere"),
        (["policy.decoder.width=wide"], "policy.decoder.width"),
        pytest.param(
            ["--device", "cuda"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device"),
        ),
    ],
)
def test_bad_input_is_one_message(vpolicy, modular, arguments, said):
    code, out, err = vpolicy("bench", modular, *arguments)
    assert code == 2 and said in err and "Traceback" not in err and out == ""


def test_a_missing_recipe_is_one_message(vpolicy, tmp_path):
    code, _, err = vpolicy("bench", tmp_path / "nope.yaml")
    assert code == 2 and "There is no recipe" in err
