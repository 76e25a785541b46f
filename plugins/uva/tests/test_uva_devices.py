"""The mode that processes practise which train together."""

from __future__ import annotations

import json
import os
from pathlib import Path

from children import Child, script

PROCESS = """\
import json
import sys

import torch
from torch import distributed
from vpolicy_uva.components import Uva, UvaAction, UvaJoint
from vpolicy_uva.options import ActionHead, Head, Transformer

from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_spaces

rank, place = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
torch.manual_seed(rank)  # as training does: every process draws for itself
joint = UvaJoint(
    image_size=(32, 32), frames=1, stride=4, history_stride=0, latent=SpaceToDepthLatent(), text=None,
    transformer=Transformer(width=16, depth=1, heads=2), video=Head(width=16, depth=1, sampling_steps=2),
)
action = UvaAction(horizon=4, head=ActionHead(width=16, depth=1, sampling_steps=2))
drawn = {}
for per in ("batch", "device", "sample"):
    policy = Uva(joint=joint, action=action, modes_per=per).build(toy_spaces(32))
    torch.manual_seed(rank)
    drawn[per] = [policy._draw(torch.ones(3, dtype=torch.bool)) for _ in range(20)]
print(json.dumps(drawn))
distributed.destroy_process_group()
"""


def test_all_devices_practise_one_mode_unless_asked_otherwise(tmp_path: Path) -> None:
    program, outputs = tmp_path / "draw.py", [tmp_path / f"{rank}.txt" for rank in range(2)]
    program.write_text(PROCESS, encoding="utf-8")
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = [
        Child(script, (str(program), str(rank), str(tmp_path / "meeting")), tmp_path, variables, output)
        for rank, output in enumerate(outputs)
    ]
    assert [process.wait(300) for process in started] == [0, 0], outputs[0].read_text("utf-8")
    first, second = (json.loads(output.read_text("utf-8").splitlines()[-1]) for output in outputs)
    assert first["batch"] == second["batch"] and len({tuple(row) for row in first["batch"]}) > 1
    assert first["batch"] == first["device"], "the first process's own draws are those of all"
    assert first["device"] != second["device"]
    assert all(len(set(row)) == 1 for row in (*first["batch"], *second["device"]))
    assert any(len(set(row)) > 1 for row in first["sample"]) and first["sample"] != second["sample"]
