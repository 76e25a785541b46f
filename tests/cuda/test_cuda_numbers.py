"""On a CUDA device every method computes what it computes on the processor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checkpoints import save_after_every_step
from regression import KilledError, Lines, statistics
from small_policies import POLICIES, small_policy
from torch import nn
from torch.overrides import TorchFunctionMode

from videopolicy import Batch, Learner, RowGenerator, Window
from videopolicy.bench.settings import Settings, tensor_float_32
from videopolicy.bench.subject import Subject
from videopolicy.console.progress import Reporter
from videopolicy.evaluation.graphs import capture, released
from videopolicy.recipes.recipe import Normalization, Stage
from videopolicy.testing import toy_batch
from videopolicy.training.lightning_loop import train_stage
from videopolicy.training.normalization import Normalizer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that torch can use"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
EXACT = 1e-3
"""Of float32 without TF32, relative to the largest number: sums in another order, amplified by sampling."""
BFLOAT16 = {"vpp": 0.02, "video_policy": 0.5, "uva": 0.05, "diffusion_policy": 0.05}
"""Of bfloat16, likewise. On a processor it is 0.001, 0.14, 0.001 and 0.015: Video Policy's levels reach 700, and its
weights are random."""
_ON_DEVICE = {torch.randn, torch.rand, torch.randint}
_LIKE = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}


class ProcessorsDraws(TorchFunctionMode):
    """Random numbers are the processor's, wherever they are asked for."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = dict(named or {})
        if function in _ON_DEVICE and named.get("device") is not None:
            device = named.pop("device")
            return function(*arguments, **named).to(device)
        if function in _LIKE:
            like = arguments[0]
            return _LIKE[function](like.shape, dtype=like.dtype).to(like.device)
        return function(*arguments, **named)


@pytest.fixture(params=POLICIES)
def name(request):
    return request.param


@pytest.fixture
def subject(name, tmp_path) -> Subject:
    return Subject(small_policy(name, tmp_path), Settings("cpu"), None)


def acted(subject: Subject, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normalised actions of two rows."""
    policy, normalizer = copy.deepcopy(subject.policy).to(device), copy.deepcopy(subject.normalizer).to(device)
    policy.reset([0, 1])
    with torch.inference_mode(), tensor_float_32(False):
        seen = normalizer.observation(subject.observation(2).to(device))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return policy.act(seen, RowGenerator.from_seeds([1, 2])).float().cpu()


def ensure_close(found: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
    assert found.isfinite().all()
    assert float((found - expected).abs().max()) <= bound * float(expected.abs().max())


def test_actions_in_float32(subject):
    ensure_close(acted(subject, CUDA), acted(subject, CPU), EXACT)


def test_actions_in_bfloat16(subject, name):
    ensure_close(acted(subject, CUDA, torch.bfloat16), acted(subject, CPU), BFLOAT16[name])


def test_captured_actions(subject):
    policy = copy.deepcopy(subject.policy).to(CUDA)
    normalizer = copy.deepcopy(subject.normalizer).to(CUDA)

    @torch.inference_mode()
    def act(seed: int) -> torch.Tensor:
        policy.reset([0, 1])
        seen = normalizer.observation(subject.observation(2, seed).to(CUDA))
        return policy.act(seen, RowGenerator.from_seeds([seed, seed + 1])).float().cpu()

    with tensor_float_32(False):
        expected = [act(seed) for seed in range(3)]
        with released(policy):
            graphs = capture(policy, lambda: act(0), CUDA)
            found = [act(seed) for seed in range(3)]
            assert graphs.captured and not graphs.failures
        again = act(0)
    for one, other in zip(found, expected, strict=True):
        ensure_close(one, other, EXACT)
    assert torch.equal(again, expected[0])


def test_a_training_step(subject):
    found = [_step(subject, device) for device in (CPU, CUDA)]
    (loss, gradient), (on_cuda, its_gradient) = found
    assert on_cuda == pytest.approx(loss, rel=EXACT)
    assert float((its_gradient - gradient).norm()) <= 10 * EXACT * float(gradient.norm())


def _step(subject: Subject, device: torch.device) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one batch."""
    policy = copy.deepcopy(subject.policy).to(device).requires_grad_(True).train()
    batch = toy_batch(subject.spaces, policy.window, batch_size=3).to(device)
    normalizer = copy.deepcopy(subject.normalizer).to(device)
    with tensor_float_32(False), ProcessorsDraws():
        torch.manual_seed(3)
        total = torch.stack(list(policy.loss(normalizer.batch(batch)).values())).sum()
        total.backward()
    gradients = [p.grad.flatten().cpu() for p in policy.parameters() if p.grad is not None]
    return float(total), torch.cat(gradients)


class Regression(Learner):
    """Learns ``actions = 2 state``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.network = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2))

    @property
    def window(self) -> Window:
        return Window(horizon=1)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        predicted = self.network(batch.observation.state[:, 0])
        return {"action": ((predicted - batch.actions[:, 0]) ** 2).mean()}


def test_checkpoints_and_averages(tmp_path, monkeypatch):
    save_after_every_step(monkeypatch)
    with tensor_float_32(False):
        on_cpu = _trained(tmp_path / "cpu", "cpu")
        whole = _trained(tmp_path / "whole", "gpu")
        with pytest.raises(KilledError):
            _trained(tmp_path / "killed", "gpu", killed_after=12)
        resumed = _trained(tmp_path / "killed", "gpu")
    ensure_close(whole, on_cpu, EXACT)
    ensure_close(resumed, whole, 1e-6)


def _trained(folder, accelerator: str, killed_after: int | None = None) -> torch.Tensor:
    """The averaged weights after 30 steps."""
    folder.mkdir(exist_ok=True)
    learner, calls = Regression(), []
    original: Callable[[Batch], dict[str, torch.Tensor]] = learner.loss

    def loss(batch: Batch) -> dict[str, torch.Tensor]:
        calls.append(1)
        if killed_after is not None and len(calls) > killed_after:
            raise KilledError
        return original(batch)

    learner.loss = loss
    stage = Stage(
        name="lines", target="policy", steps=30, batch_size=16, optimizer={"learning_rate": 1e-2}, ema_decay=0.9
    )
    normalizer = Normalizer(Normalization(), statistics())
    train_stage(learner, normalizer, Lines(), stage, 0, folder, Reporter(quiet=True), accelerator=accelerator)
    return torch.cat([p.detach().flatten().cpu() for p in learner.parameters()])
