"""Fully sharded training: two processes that hold a half each learn what two whole ones learn."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_recipes
from command import vpolicy
from safetensors.torch import load_file
from together import VPOLICY, Place
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from videopolicy import Learner, VpolicyError, Window
from videopolicy.contracts.measured import repeated_layers
from videopolicy.recipes.recipe import Stage
from videopolicy.training.averaging import Averaging
from videopolicy.training.curves import read_curves
from videopolicy.training.sharding import Sharded, gathered, like, local, shard, strategy_for

STAGE = (
    "name: video, target: policy.extractor.backbone, steps: 20, batch_size: 2, devices: 2, ema_decay: 0.9, "
    "validate_every: 10, "
    "gradient_clip: 1.0, optimizer: {learning_rate: 0.001, epsilon: 1.0e-5}"
)
"""What has no gradient but by rounding, such as biases before a norm, does not move with this epsilon."""
WATCHED = """
import json, os, time
import videopolicy.training, videopolicy.training.lightning_loop as training, videopolicy.cli.main
from videopolicy.training.sharding import local
videopolicy.training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
videopolicy.training.SHARE_OF_SAVING = float("inf")
end = training._Watch.on_train_batch_end

def watched(self, trainer, module, *rest):
    end(self, trainer, module, *rest)
    weights = [local(one) for one in module.learner.parameters()]
    states = [local(one) for state in trainer.optimizers[0].state.values() for one in state.values()]
    held = sum(one.untyped_storage().nbytes() for one in [*weights, *states])
    kind, rank = type(trainer.strategy).__name__, trainer.global_rank
    open(f"{kind}-{rank}.json", "w").write(json.dumps(held))
    time.sleep(float(os.environ.get("SLOWLY", 0)))

training._Watch.on_train_batch_end = watched
videopolicy.cli.main.main()
"""


def place_of(folder: Path, home: Path) -> Place:
    recipe = toy_recipes.video((STAGE,), "episodes: 0", tasks="red")
    return Place(folder, home, small__yaml=recipe, watched__py=WATCHED)


def train(place: Place, *options: str) -> Path:
    """Both processes to their ends; the stage's folder."""
    found = place.both(place.folder / "watched.py", "run", "small.yaml", *options)
    assert [one.wait(300) for one in found] == [0, 0], place.output()
    return place.stage("video")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_halves_learn_what_two_whole_ones_learn_and_go_on_after_a_kill(tmp_path):
    place = place_of(tmp_path / "place", tmp_path / "home")
    whole = train(place)
    killed = place_of(tmp_path / "killed", tmp_path / "killed-home")
    shutil.copytree(place.home, killed.home)
    halves = train(place, "train.video.strategy=fsdp")
    assert whole != halves

    for name in ("loss/video", "validation/video"):
        losses = [[value for _, value in read_curves(folder)[name]] for folder in (whole, halves)]
        assert len(losses[0]) > 1 and losses[1] == pytest.approx(losses[0], rel=1e-4), name
    weights = [load_file(folder / "weights.safetensors") for folder in (whole, halves)]
    shapes = [{name: one.shape for name, one in found.items()} for found in weights]
    assert shapes[0] == shapes[1]
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-3, atol=1e-5, msg=name)
    held = {path.stem: json.loads(path.read_text()) for path in place.folder.glob("*-?.json")}
    assert held["DDPStrategy-0"] == held["DDPStrategy-1"]
    for rank in (0, 1):
        assert 0.45 < held[f"Sharded-{rank}"] / held["DDPStrategy-0"] < 0.55

    halved = ("run", "small.yaml", "train.video.strategy=fsdp")
    running = killed.both(killed.folder / "watched.py", *halved, SLOWLY="0.2")
    deadline = time.monotonic() + 200
    while not any(killed.home.glob("stages/*/checkpoint.ckpt")):
        assert running[0].poll() is None and time.monotonic() < deadline, killed.output()
        time.sleep(0.01)
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            one.send_signal(signal.SIGKILL)
        one.wait(60)
    assert [one.wait(300) for one in killed.both(VPOLICY, *halved)] == [0, 0], killed.output()
    pieces = sorted(path.name for path in killed.stage("video").glob("curves/*"))
    assert len(pieces) == 2 and pieces[0] == "from-000000000"
    again = load_file(killed.stage("video") / "weights.safetensors")
    for name, expected in weights[1].items():
        torch.testing.assert_close(again[name], expected, rtol=1e-5, atol=1e-6)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.linear(values).tanh()


class Tower(nn.Module):
    repeated_layers = (Layer,)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(), Layer(), Layer())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layers(values)


class Small(Learner):
    """Repeated layers, a convolution whose weights lie in another order, a frozen weight, a frozen single number."""

    every_parameter_learns = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tower, self.head, self.frozen = Tower(), nn.Linear(4, 2), nn.Linear(4, 4).requires_grad_(False)
        self.conv = nn.Conv2d(4, 4, 3, padding=1).to(memory_format=torch.channels_last)
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @property
    def window(self) -> Window:
        return Window()

    def loss(self, batch: Any) -> dict[str, torch.Tensor]:
        values = self.conv(batch[:, :, None, None]).flatten(1)
        return {"action": (self.head(self.tower(self.frozen(values))) * self.scale).square().mean()}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()


def step(learner: Learner, optimizer: torch.optim.Optimizer) -> float:
    loss = learner.loss(torch.linspace(-1, 1, 12).view(3, 4))["action"]
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(learner.parameters(), 0.1)
    optimizer.step()
    return loss.item()


def test_repeated_layers_are_gathered_one_by_one_and_the_rest_for_a_step(alone):
    plain, divided = Small(), Small()
    assert repeated_layers(divided.tower) == list(divided.tower.layers) and repeated_layers(divided.head) == []
    shard(divided, alone)
    assert sum(isinstance(one, FSDPModule) for one in divided.modules()) == 4
    assert {name for name, one in divided.named_parameters() if not isinstance(one, DTensor)} == {"scale"}
    optimizers = [torch.optim.AdamW(one.parameter_groups()[0]["params"], 0.01, fused=True) for one in (plain, divided)]
    both = zip((plain, divided), optimizers, strict=True)
    losses = [[step(one, optimizer) for _ in range(5)] for one, optimizer in both]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6) and losses[0][-1] < losses[0][0]
    whole = gathered(divided.state_dict())
    assert whole.keys() == plain.state_dict().keys()
    for name, expected in plain.state_dict().items():
        torch.testing.assert_close(whole[name], expected)
        assert not isinstance(whole[name], DTensor)


def test_what_is_gathered_is_a_copy_and_can_be_divided_again(alone):
    learner = Small()
    shard(learner, alone)
    weight = learner.head.weight
    found = gathered({"a": [weight], "b": 1})
    with torch.no_grad():
        local(weight).add_(1)
    torch.testing.assert_close(found["a"][0] + 1, gathered([weight])[0])
    again = like(found["a"][0], weight)
    assert isinstance(again, DTensor) and again.placements == weight.placements
    assert torch.equal(local(again), found["a"][0])
    plain = torch.ones(2)
    assert like(plain, plain) is plain and local(plain) is plain
    assert gathered({"a": plain})["a"] is plain  # nothing of it is sharded


def test_averages_of_shares_are_saved_whole_and_go_on(alone):
    from types import SimpleNamespace

    plain, divided = Small(), Small()
    shard(divided, alone)
    found = []
    for learner in (plain, divided):
        optimizer = torch.optim.AdamW(learner.parameter_groups()[0]["params"], 0.1)
        averaging = Averaging(learner, 0.5, None)
        for number in range(4):
            step(learner, optimizer)
            averaging.on_train_batch_end(SimpleNamespace(global_step=number + 1), None)
            if number == 1:
                state = averaging.state_dict()
                assert not any(isinstance(one, DTensor) for one in state["average"].values())
                averaging = Averaging(learner, 0.5, None)
                averaging.load_state_dict({**state, "average": {k: v.clone() for k, v in state["average"].items()}})
        averaging.on_train_end(None, None)
        found.append(gathered(learner.state_dict()))
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected)


def test_where_it_cannot_be_used_is_said(tmp_path):
    (tmp_path / "small.yaml").write_text(toy_recipes.video((STAGE,), "episodes: 0"))
    for options, says in (
        (("train.video.devices=1",), "fsdp divides a model among devices, and this stage has one"),
        (("train.video.precision=16-mixed",), "16-mixed scales gradients, which strategy fsdp does not support"),
    ):
        found = vpolicy(tmp_path, "check", "small.yaml", "train.video.strategy=fsdp", *options)
        assert found.returncode == 2 and says in found.stderr
    stage = Stage(name="all", steps=1, batch_size=1, devices=2, strategy="fsdp")
    learner = Small()
    assert isinstance(strategy_for(stage, learner), Sharded)
    learner.scale.requires_grad_()
    with pytest.raises(VpolicyError, match="scale cannot be divided") as error:
        strategy_for(stage, learner)
    assert error.value.hint == "Set train.all.strategy=ddp, or give them the shape (1,)."
    learner.every_parameter_learns = False
    with pytest.raises(VpolicyError, match="policy does not declare that every parameter learns"):
        strategy_for(stage, learner)
