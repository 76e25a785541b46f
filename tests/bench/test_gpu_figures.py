"""The script for a CUDA machine, at toy sizes on the processor."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from videopolicy.contracts.backbone import Denoised
from videopolicy.evaluation import graphs as cuda_graphs
from videopolicy.training.session import available_device

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("gpu_figures")


@pytest.mark.slow
def test_toy_sizes_go_through_every_section(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["--out", tmp_path, "--tiny", "--deadline", "500", "--only", "vpp,training uva"]
    monkeypatch.setattr(sys, "argv", ["gpu_figures.py", *map(str, arguments)])
    assert script.main() == 0
    facts = json.loads((tmp_path / "figures.json").read_text())
    assert [(one["name"], one["error"]) for one in facts["sections"]] == [
        ("peaks", None),
        ("acting vpp", "NotImplementedError: CUDA graphs need a CUDA device"),
        ("training vpp policy", None),
        ("training uva joint", None),
    ]
    assert [(row["model"], row["steps"], row["dtype"]) for row in facts["acting"]] == [
        ("vpp", 2, "tf32"),
        ("vpp", 2, "bfloat16"),
    ]
    assert all(row["finite"] and row["parts"]["video forward"] > 0 for row in facts["acting"])
    assert [row["samples_per_second"] > 0 for row in facts["training"]] == [True, True]
    printed = capsys.readouterr().out
    assert "train vpp policy, bf16-mixed, batch 4" in printed and "7.3 ms at 790 TFLOP/s" in printed
    assert (tmp_path / "table.txt").read_text().strip() in printed


def test_a_section_that_fails_is_written_down_and_the_next_one_runs(script, tmp_path):
    def breaks() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def hangs() -> None:
        while True:
            pass

    record = script.Record(tmp_path, deadline=1e9)
    record.section("breaks", 60, breaks)
    record.section("hangs", 3.1, hangs)
    record.deadline = 0
    record.section("late", 60, breaks)
    errors = [one["error"] for one in json.loads(record.path.read_text())["sections"]]
    assert errors == [
        "OutOfMemoryError: CUDA out of memory",
        "SectionTimeout: its time is over",
        "SectionTimeout: no time was left for it",
    ]


def test_the_shell_script_knows_its_options():
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["sh", str(ROOT / "scripts" / "gpu.sh"), "--fast"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2 and "knows no '--fast'" in result.stderr


def test_evaluation_and_training_choose_the_same_products():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        available_device()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


class Body(nn.Module):
    """A module that is called as a whole, one whose inside is called, and one that is cut short."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.parts = nn.ModuleList([nn.Sequential(nn.Linear(2, 2))])
        self.cut = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def act(self, x):
        with self.cut[0].register_forward_hook(self.stop), pytest.raises(StopIteration):
            self.cut(x)
        return self.parts[0](self.whole(x))

    @staticmethod
    def stop(*_):
        raise StopIteration


def test_modules_that_are_entered_from_outside_are_captured():
    body = Body()
    graphs = cuda_graphs.capture(body, lambda: body.act(torch.ones(1, 2)), torch.device("cpu"))
    assert graphs.names == ["policy.whole", "policy.parts.0"]
    with cuda_graphs.released(body):
        pass
    assert not [module for module in body.modules() if "forward" in vars(module)]


def test_what_cannot_be_captured_is_computed_as_before():
    body = Body()
    expected = body.act(torch.ones(1, 2))
    graphs = cuda_graphs.capture(body, lambda: body.act(torch.ones(1, 2)), torch.device("cpu"))
    assert torch.equal(body.act(torch.ones(1, 2)), expected)
    assert set(graphs.failures) == {"policy.whole", "policy.parts.0"} and graphs.captured == {}


def test_values_are_taken_apart_and_put_together():
    value = ([torch.ones(1), {"a": torch.zeros(2)}], Denoised(None, {"up0": torch.ones(3)}), "text", None)
    tensors: list[torch.Tensor] = []
    shape = cuda_graphs._taken_apart(value, tensors)
    assert [len(one) for one in tensors] == [1, 2, 3] and hash(shape) == hash(cuda_graphs._taken_apart(value, []))
    doubled = cuda_graphs._rebuilt(value, lambda one: 2 * one)
    assert doubled[0][0].item() == 2 and doubled[1].taps["up0"].tolist() == [2, 2, 2] and doubled[2] == "text"
