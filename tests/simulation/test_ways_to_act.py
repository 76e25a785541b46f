"""``eval.compile`` and ``eval.graphs``: the same actions up to rounding, another run, and a clear word where they are
not to be had."""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from command import vpolicy
from rollouts import rollout_of
from small_policies import small_policy
from toy_recipes import linear

from videopolicy.bench.settings import Settings
from videopolicy.bench.subject import Subject
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.errors import VpolicyError
from videopolicy.evaluation.acting import PolicyActor, ensure_ways_to_act
from videopolicy.evaluation.compiling import compile_modules
from videopolicy.recipes.recipe import Evaluation, Normalization
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing import toy_observation
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_models import ToyReflex
from videopolicy.training.normalization import Normalizer
from videopolicy.types import Observation, RowGenerator, Window

COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a processor")
ROWS = 2


def scaled() -> Normalizer:
    return Normalizer(Normalization(), Statistics(FieldStatistics([-1.0] * 2, [1.0] * 2, [0.0] * 2, [1.0] * 2)))


def acted(subject: Subject, actor: PolicyActor) -> list[np.ndarray]:
    """Two plans of an episode."""
    actor.reset(list(range(ROWS)))
    plans = [subject.observation(ROWS, plan) for plan in (1, 2)]
    return [actor.act(seen, RowGenerator.from_seeds([3, 4])) for seen in plans]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vpp", "video_policy"])
def test_compiled_actions_are_the_same_up_to_rounding(name, tmp_path, monkeypatch):
    # Captured as always; only the kernels are torch's own, since building others takes minutes.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    subject = Subject(small_policy(name, tmp_path), Settings("cpu"), None)
    torch._dynamo.reset()
    expected = acted(subject, subject.actor)
    parts = (subject.policy, subject.normalizer, subject.spaces.actions, torch.device("cpu"))
    actor = PolicyActor(*parts, compiled=True)
    actor.prepare(subject.observation(ROWS))
    compiled = [path for path, module in subject.policy.named_modules() if "forward" in vars(module)]
    assert len([one for one in compiled if one.startswith("extractor.backbone.unet.")]) > 6
    found = acted(subject, actor)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() < 1e-4
    assert np.ptp(np.stack(expected)) > 0.01


@pytest.mark.parametrize("name", ["vpp", "video_policy"])
def test_a_video_model_whose_maps_are_read_is_compiled_by_layer(name, tmp_path):
    subject = Subject(small_policy(name, tmp_path), Settings("cpu"), None)
    chosen = compile_modules(subject.policy, lambda: subject.act(subject.observation(1)))
    unet = subject.policy.extractor.backbone.unet
    compiled = [module for module in unet.modules() if "forward" in vars(module)]
    # Its pass runs as a whole, so its layers may be; those behind the last map never run and stay as they are.
    assert {type(module).__name__ for module in compiled} == {"ResidualLayer", "TransformerLayer"}
    listed = f"policy.extractor.backbone.unet ({len(compiled)} layers)"
    assert [one for one in chosen if "backbone.unet" in one] == [listed] and len(compiled) > 6


class Remembering(ToyReflex):
    """Acts by how often it was asked since its rows were begun."""

    asked = 0

    def reset(self, rows: list[int]) -> None:
        self.asked = 0

    def act(self, observation: Observation, generator: RowGenerator) -> torch.Tensor:
        self.asked += 1
        return super().act(observation, generator) + 0.01 * self.asked


def test_what_is_done_once_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr("videopolicy.evaluation.acting.compile_modules", lambda policy, call: call())
    spaces = ToyBenchmark().spaces()
    policy = Remembering(Window(horizon=2), len(spaces.cameras), spaces.actions.dim)
    seen = toy_observation(spaces, policy.window)
    actions = []
    for compiled in (False, True):
        actor = PolicyActor(policy, scaled(), spaces.actions, torch.device("cpu"), compiled=compiled)
        actor.reset([0, 1])
        actor.prepare(seen)
        assert policy.asked == 0
        actions.append(actor.act(seen, RowGenerator.from_seeds([0, 1])))
    assert np.array_equal(*actions)


def test_a_graph_casts_weights_of_its_own():
    """Those that autocast remembers are gone when it is replayed."""
    spaces = ToyBenchmark().spaces()
    policy = ToyReflex(Window(horizon=2), len(spaces.cameras), spaces.actions.dim)
    remembered: list[bool] = []
    policy.linear.register_forward_pre_hook(lambda *_: remembered.append(torch.is_autocast_cache_enabled()))
    for graphs in (False, True):
        actor = PolicyActor(policy, scaled(), spaces.actions, torch.device("cpu"), "bf16", graphs=graphs)
        actor.act(toy_observation(spaces, policy.window), RowGenerator.from_seeds([0, 1]))
    assert remembered == [True, False]


def test_what_is_done_once_is_over_before_anything_is_measured(tmp_path, monkeypatch):
    toy = ToyBenchmark(task_names=("red",), max_steps=6)
    policy = ToyReflex(Window(horizon=3), len(toy.spaces().cameras), 2)
    settings = Evaluation(episodes=2, workers=1, batch_size=1, execute=3)
    with WorkerPool(toy.launch(), Path(sys.executable), 1, tmp_path / "logs", toy.spaces()) as pool:
        rollout = rollout_of(tmp_path, policy, toy, pool, settings)
        prepared: list[int] = []
        monkeypatch.setattr(rollout.actor, "prepare", lambda seen: (prepared.append(len(seen)), time.sleep(1)))
        rollout.run(toy.tasks())
    assert prepared == [1] and len(rollout.chunk_seconds) >= 2 and max(rollout.chunk_seconds) < 0.9


def test_graphs_and_compilers_that_are_not_there_are_named(monkeypatch):
    with pytest.raises(VpolicyError, match=r"eval\.graphs records CUDA graphs.*no CUDA device") as caught:
        ensure_ways_to_act(Evaluation(graphs=True), torch.device("cpu"))
    assert "Leave eval.graphs out" in caught.value.hint
    monkeypatch.setenv("CXX", "no-such-compiler")
    no_compiler = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    finds_none = pytest.raises(VpolicyError, match=r"eval\.compile compiles the policy, and torch finds no C\+\+")
    with no_compiler, finds_none as caught:
        ensure_ways_to_act(Evaluation(compile=True), torch.device("cpu"))
    assert "g++" in caught.value.hint


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(linear("episodes: 1, execute: 3, workers: 1, batch_size: 2"), encoding="utf-8")
    return path


def test_graphs_on_a_processor_end_a_run_before_it_trains(recipe: Path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    home = {"VPOLICY_HOME": str(recipe.parent / "home")}
    ended = vpolicy(recipe.parent, "run", "small.yaml", "eval.graphs=true", **home)
    assert ended.returncode == 2 and "Leave eval.graphs out" in ended.stderr
    assert not list((recipe.parent / "home").glob("stages/*/weights*"))


@COMPILER
@pytest.mark.slow
def test_a_compiled_evaluation_is_another_run(recipe: Path):
    home = {"VPOLICY_HOME": str(recipe.parent / "home")}
    assert vpolicy(recipe.parent, "run", "small.yaml", **home).returncode == 0
    other = vpolicy(recipe.parent, "run", "small.yaml", "eval.compile=true", **home)
    assert other.returncode == 2 and "(different: compile)" in other.stderr and "name=OTHER" in other.stderr
    apart = vpolicy(recipe.parent, "run", "small.yaml", "eval.compile=true", "name=quick", **home)
    assert apart.returncode == 0, apart.stderr
    plain, quick = (recipe.parent / "runs" / name for name in ("small", "quick"))
    assert ", compiled" in (quick / "report.html").read_text("utf-8")
    assert ", compiled" not in (plain / "report.html").read_text("utf-8")
    paths = sorted((plain / "trajectories" / "trained").iterdir())
    assert len(paths) == 2
    for path in paths:
        executed = [np.load(folder / "trajectories" / "trained" / path.name) for folder in (plain, quick)]
        assert np.abs(executed[0] - executed[1]).max() < 1e-4
