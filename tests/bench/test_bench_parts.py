"""Who a moment of a call belongs to, and what it is counted as."""

from __future__ import annotations

import itertools
import time
from typing import ClassVar

import pytest
import torch
from torch import nn

from videopolicy.bench.acting import timed_plans
from videopolicy.bench.counting import operations, parameters_by_part
from videopolicy.bench.parts import ACTION, ENCODE, FORMER, OTHER, TEXT, VIDEO, Account, split
from videopolicy.bench.settings import Settings
from videopolicy.bench.subject import Subject, UnfoldingEpisode
from videopolicy.console.progress import Reporter
from videopolicy.evaluation.compiling import compile_modules
from videopolicy.recipes.recipe import load_recipe
from videopolicy.types import Window


def ticking() -> Account:
    """An account whose clock goes on by one whenever it is read."""
    return Account(itertools.count().__next__)


def test_time_belongs_to_the_innermost_part():
    clock = iter([0.0, 1.0, 5.0, 6.0, 10.0, 12.0]).__next__
    account = Account(clock)
    with account.inside("outer"):  # 0
        with account.inside("inner"):  # 1 .. 5
            pass
        with account.inside("inner"):  # 6 .. 10
            pass
    assert account.spent == {"outer": 1 + 1 + 2, "inner": 4 + 4}
    assert account.total == 12


def test_a_generator_is_not_charged_for_what_its_consumer_does():
    now = [0.0]
    account = Account(lambda: now[0])

    def items():
        for item in range(3):
            now[0] += 10
            yield item

    with account.inside("consumer"):
        for _ in account.wrapped_iterator("generator", items)():
            now[0] += 1
    assert account.spent == {"generator": 30, "consumer": 3}


def test_an_error_leaves_the_account_in_order():
    account = ticking()
    with account.inside("outer"), pytest.raises(ValueError), account.inside("inner"):
        raise ValueError
    assert account._running == []


def test_every_part_of_a_real_policy_is_told_apart_and_put_back(pretrained, no_network):
    subject = Subject(load_recipe(pretrained), Settings("cpu"), None)
    account = ticking()
    with split(subject.policy, account):
        subject.act(subject.observation(1))
    assert set(account.spent) == {TEXT, ENCODE, VIDEO, FORMER, ACTION, OTHER}
    assert account.total == account._read_at, "parts do not add up to what went by between the first and last reading"
    assert not [m for m in subject.policy.modules() if {"act", "stream", "denoise", "sample", "forward"} & set(vars(m))]
    assert no_network == []


def test_a_method_that_was_replaced_before_is_put_back(whole):
    subject = Subject(load_recipe(whole), Settings("cpu"), None)
    captured = subject.policy.act
    subject.policy.__dict__["act"] = captured
    with split(subject.policy, ticking()):
        assert subject.policy.act is not captured
    assert subject.policy.__dict__["act"] is captured


def test_operations_of_a_linear_policy_are_exact(whole):
    subject = Subject(load_recipe(whole), Settings("cpu"), None)
    inputs, outputs = 3, 5 * 2  # mean colours of one camera to five actions of two numbers
    assert operations(subject) == {OTHER: 2 * inputs * outputs}
    casting = Subject(load_recipe(whole), Settings("cpu", "bfloat16"), None)
    assert operations(casting) == {OTHER: 2 * inputs * outputs}
    assert all(parameter.requires_grad for parameter in casting.policy.parameters())
    assert parameters_by_part(subject.policy) == {"policy.linear": inputs * outputs + outputs}


def test_operations_by_part_follow_the_steps_of_the_decoder(modular):
    def counted(steps: int) -> dict[str, int]:
        return operations(Subject(load_recipe(modular, [f"policy.decoder.steps={steps}"]), Settings("cpu"), None))

    width, tokens, size = 32, 16 * 16, 4 * 2
    one_step = 2 * width * (tokens + (size + 1) + size)
    assert counted(1)[ACTION] == one_step
    assert counted(5)[ACTION] == 5 * one_step
    assert counted(1)[FORMER] == counted(5)[FORMER] == 2 * 16 * 3 * 16


def test_shapes_alone_give_the_same_operations(pretrained, no_network):
    recipe = load_recipe(pretrained)
    real, shapes = (operations(Subject(recipe, settings, None)) for settings in (Settings("cpu"), Settings(meta=True)))
    assert real == shapes
    assert real[VIDEO] > real[FORMER] > 0


class Declared(nn.Linear):
    """A part by its own word."""

    measured_parts: ClassVar = {"forward": ENCODE}


def test_modules_may_say_which_part_they_are():
    model = nn.Sequential(nn.Sequential(Declared(4, 4), nn.Linear(4, 4)), nn.Linear(4, 2))
    account = ticking()
    with split(model, account):
        model(torch.ones(1, 4))
    assert account.spent == {ENCODE: 1}
    assert parameters_by_part(model) == {"policy.0.0": 20, "policy.0.1": 20, "policy.1": 10}


def test_plans_see_again_what_earlier_plans_saw(whole, monkeypatch):
    subject = Subject(load_recipe(whole, ["eval.execute=4"]), Settings("cpu"), None)
    monkeypatch.setattr(type(subject.policy), "window", Window((-8, -4, 0), horizon=5))
    first, second, third = (next(iter(subject.observation(2, plan).images.values())) for plan in (1, 2, 3))
    assert torch.equal(first[:, 1:], second[:, :2]) and torch.equal(first[:, 2], third[:, 0])
    assert not torch.equal(first[:, 2], second[:, 2]) and not torch.equal(first[0], first[1])
    seen = []
    monkeypatch.setattr(subject, "act", lambda observation: seen.append(next(iter(observation.images.values()))))
    for _ in range(2):  # a second measurement goes on where the first one ended
        episode = UnfoldingEpisode(subject)
        episode.unfold()
        episode.act()
    assert torch.equal(seen[0][:, 1:], seen[1][:, :2]) and not torch.equal(seen[0], seen[1])


def test_compiling_for_a_number_of_rows_is_not_timed(whole, monkeypatch):
    subject = Subject(load_recipe(whole), Settings("cpu", compile=True, warmup=0, calls=3), None)
    calls: list[int] = []

    def act(observation) -> None:
        calls.append(len(observation))
        time.sleep(0.5 if len(calls) <= 2 else 0)  # the first plan and a later one are compiled

    monkeypatch.setattr(subject, "act", act)
    timing = timed_plans(subject, "batch of 3", 3, Reporter(quiet=True))
    assert calls == [3] * 5 and len(timing.seconds) == 3 and max(timing.seconds) < 0.4


class Body(nn.Module):
    """Blocks, of which one may be looked into while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.never = nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x))


def test_compiled_modules_are_the_outermost_that_nobody_looks_into():
    model = nn.ModuleList([Body()])
    assert compile_modules(model, lambda: model[0](torch.ones(1, 4))) == ["policy.0"]
    model = nn.ModuleList([Body()])

    def read_inside() -> None:
        with model[0].second[0].register_forward_hook(lambda *_: None):
            model[0](torch.ones(1, 4))

    chosen = compile_modules(model, read_inside)
    assert chosen == ["policy.0.first", "policy.0.second.0", "policy.0.second.1"]


class Stack(nn.Module):
    """Says that it consists of equal layers, of which one is never run."""

    repeated_layers: ClassVar = (nn.Linear,)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        for layer in self.layers[:3]:
            x = layer(x)
        return self.norm(x)


def test_repeated_layers_are_compiled_in_place_of_what_consists_of_them():
    model = nn.ModuleList([Stack()])
    x = torch.ones(2, 4)
    assert compile_modules(model, lambda: model[0](x)) == ["policy.0 (3 layers)"]
    assert ["forward" in vars(layer) for layer in model[0].layers] == [True, True, True, False]
    assert "forward" not in vars(model[0]) and "forward" not in vars(model[0].norm)


def test_a_forward_that_is_cut_short_is_not_compiled():
    model = nn.ModuleList([Body()])

    def stop(*_):
        raise StopIteration

    def cut() -> None:
        with model[0].second.register_forward_pre_hook(stop), pytest.raises(StopIteration):
            model[0](torch.ones(1, 4))

    assert compile_modules(model, cut) == ["policy.0.first"]
