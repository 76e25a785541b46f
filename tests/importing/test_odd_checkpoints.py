"""Checkpoints that are not quite a state dict: read as what they mean, or one message names the entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import vpolicy
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videopolicy import Checkpoint, FieldStatistics, Imported, ImporterComponent, PluginError, Statistics, WeightsError
from videopolicy.components.plugins import file_plugin
from videopolicy.components.registry import Registry
from videopolicy.importing.reading import read_checkpoint
from videopolicy.importing.tensors import converted, disjoint, ensure_same_kinds

PARTS = Path(__file__).with_name("parts.py")
IMPORTER = next(part for part in file_plugin(PARTS).components if part.__name__ == "HalvesImporter")
SHAPES = {"net.a.weight": (4, 3), "net.a.bias": (4,), "net.b.weight": (8, 4), "net.b.bias": (8,)}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videopolicy.components.registry.current_registry", lambda: Registry([file_plugin(PARTS)]))


def state(**changes: Any) -> dict[Any, Any]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()} | changes


def imported(folder: Path, content: Any, *more: str, **options: Any) -> tuple[int, str]:
    """Exit code of the command, and all that it said."""
    torch.save(content, folder / "x.ckpt", **options)
    done = vpolicy(folder, "import", "halves", "x.ckpt", "-o", "weights", "--force", *more)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


WRAPPED = {
    "data parallelism": lambda name: f"module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "compiled inside": lambda name: f"module._orig_mod.{name}",
    "compiled outside": lambda name: f"_orig_mod.module.{name}",
    "twice": lambda name: f"module.module.{name}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{name.replace('net.', 'net._fsdp_wrapped_module.')}",
    "a compiled layer": lambda name: name.replace("net.a.", "net.a._orig_mod."),
    "a parallel layer": lambda name: name.replace("net.b.", "net.b.module."),
    "a parallel part": lambda name: name.replace("net.", "net.module._orig_mod."),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_of_training_say_nothing_about_the_model(tmp_path: Path, wrap: Any) -> None:
    code, said = imported(tmp_path, {"state_dict": {wrap(name): value for name, value in state().items()}})
    assert code == 0, said
    found = load_file(tmp_path / "weights/weights.safetensors")
    assert torch.equal(found["trained.weight"], state()["net.b.weight"])
    assert "names read without the wrappers of training" in said
    assert "wrappers" in json.loads((tmp_path / "weights/import.json").read_text())["remarks"][0]


def test_a_module_that_is_called_module_keeps_its_name() -> None:
    names = {"net.module.weight": torch.ones(2, 2), "net.head.weight": torch.ones(2, 2), "head.module": torch.ones(2)}
    checkpoint = Checkpoint(Path("x.pt"), names)
    assert list(checkpoint.state) == list(names) and checkpoint.remarks == []


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_one_name_with_and_without_wrapper_is_no_choice_of_ours(tmp_path: Path, prefix: str) -> None:
    code, said = imported(tmp_path, {"state_dict": state(**{f"{prefix}net.a.bias": torch.zeros(4)})})
    assert code == 2 and "'net.a.bias'" in said and f"'{prefix}net.a.bias'" in said and "are one name" in said
    assert "Save the state dict of one model" in said and not (tmp_path / "weights").exists()


class OfAnother(Tensor):
    """As libraries have them."""


ODD: dict[str, tuple[Any, str]] = {
    "sparse": (torch.eye(8, 4).to_sparse(), "is a sparse tensor"),
    "sparse by rows": (torch.eye(8, 4).to_sparse_csr(), "is a sparse tensor"),
    "meta": (torch.empty(8, 4, device="meta"), "is a tensor without values"),
    "quantised": (torch.quantize_per_tensor(torch.ones(8, 4), 0.1, 0, torch.qint8), "is quantised"),
    "whole numbers": (torch.ones(8, 4, dtype=torch.int8), "holds whole numbers (int8)"),
    "complex": (torch.ones(8, 4, dtype=torch.complex64), "is of type complex64"),
    "nested": (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "is a nested tensor"),
    "another class": (torch.ones(8, 4).as_subclass(OfAnother), "is of a tensor class of another library"),
    "numpy": (np.ones((8, 4), np.float32), "is an array of numpy"),
    "a number": (3.5, "is of type float, not a tensor"),
    "a list": ([[1.0, 2.0]], "is of type list, not a tensor"),
    "no dimensions": (torch.tensor(1.0), "has the shape ()"),
    "nothing": (torch.zeros(0, 4), "has the shape (0, 4)"),
    "NaN": (torch.full((8, 4), torch.nan), "contains NaN"),
    "one infinity": (torch.ones(8, 4).index_fill_(0, torch.tensor([3]), torch.inf), "contains infinity"),
    "beyond float32": (torch.full((8, 4), 1e300, dtype=torch.float64), "contains numbers beyond float32"),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("beside", [{}, {"config": Path("x")}], ids=["tensors alone", "with objects"])
@pytest.mark.parametrize(("value", "says"), ODD.values(), ids=ODD)
def test_what_no_weight_can_be_is_named(tmp_path: Path, value: Any, says: str, beside: dict[str, Any]) -> None:
    code, said = imported(tmp_path, {"state_dict": state(**{"net.b.weight": value}), **beside})
    assert code == 2 and f"'net.b.weight' {says}" in said, said
    assert "Traceback" not in said and said.count("vpolicy:") == 1 and not (tmp_path / "weights").exists()


@pytest.mark.parametrize("key", [0, 1.5, None, ("net", "a"), b"net.b.weight"])
def test_keys_that_are_no_names_are_shown(tmp_path: Path, key: Any) -> None:
    code, said = imported(tmp_path, {"state_dict": {**state(), key: torch.ones(2)}})
    assert code == 2 and f"the key {key!r} of a tensor is of type {type(key).__name__}" in said, said
    code, said = imported(tmp_path, {key: torch.ones(2)})
    assert code == 2 and f"the key {key!r}" in said, said


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_kept_as_they_are(tmp_path: Path, kind: torch.dtype) -> None:
    code, said = imported(tmp_path, {"state_dict": {name: value.to(kind) for name, value in state().items()}})
    assert code == 0, said
    found = load_file(tmp_path / "weights/weights.safetensors")["trained.weight"]
    assert found.dtype == kind and torch.equal(found, state()["net.b.weight"].to(kind))


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("beside", [{}, {"config": Path("x")}], ids=["tensors alone", "with objects"])
def test_floats_of_eight_bits_are_written_so_that_anything_loads_them(
    tmp_path: Path, kind: torch.dtype, beside: dict[str, Any]
) -> None:
    eight = {name: value.to(kind) for name, value in state().items()}
    code, said = imported(tmp_path, {"state_dict": eight, **beside})
    assert code == 0 and "8-bit floats written as bfloat16: net.a.bias, net.a.weight" in said, said
    found = load_file(tmp_path / "weights/weights.safetensors")["trained.weight"]
    assert found.dtype == torch.bfloat16 and torch.equal(found.float(), eight["net.b.weight"].float())


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    table = torch.arange(64.0)
    views = {
        "net.a.weight": table[:12].view(4, 3),
        "net.a.bias": table[2:6],
        "net.b.weight": table[4:36].view(4, 8).T,
        "net.b.bias": table[0:1].expand(8),
    }
    code, said = imported(tmp_path, {"state_dict": views})
    assert code == 0, said
    found = load_file(tmp_path / "weights/weights.safetensors")
    for name, value in views.items():
        ours = name.replace("net.a", "frozen").replace("net.b", "trained")
        assert torch.equal(found[ours], value), name


def test_only_what_overlaps_is_copied() -> None:
    table = torch.arange(12.0)
    apart = {"first": table[:4], "second": table[4:8], "over": table[6:10], "again": table[:4]}
    found = disjoint(apart)
    assert [name for name in apart if found[name].data_ptr() != apart[name].data_ptr()] == ["over", "again"]
    assert all(torch.equal(found[name], value) for name, value in apart.items())


def test_a_parameter_with_attributes_is_its_values(tmp_path: Path) -> None:
    weight = nn.Parameter(state()["net.b.weight"])
    weight.tensor_model_parallel = True
    code, said = imported(tmp_path, {"state_dict": state(**{"net.b.weight": weight}), "config": Path("x")})
    assert code == 0, said


def test_values_beside_the_tensors_are_skipped_and_said(tmp_path: Path) -> None:
    extra = {"net._extra_state": None, "net.options": {"a": 1}, "epoch": 3, "names": ["a"]}
    code, said = imported(tmp_path, {"state_dict": state(**extra)})
    assert code == 0 and "skipped, for they are no tensors: net.options" in said, said


def test_safetensors_of_every_kind(tmp_path: Path) -> None:
    save_file({f"_orig_mod.{name}": value for name, value in state().items()}, tmp_path / "x.safetensors")
    assert list(read_checkpoint(tmp_path / "x.safetensors").state) == sorted(SHAPES, reverse=False)
    save_file({"net.a.weight": torch.ones(2, dtype=torch.uint8)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"net\.a\.weight' holds whole numbers \(uint8\)"):
        _ = read_checkpoint(tmp_path / "x.safetensors").state


class Says(ImporterComponent):
    """Returns what a test wants."""

    type: str = "says"
    answer: Any = None

    def convert(self, checkpoint: Checkpoint) -> Imported:
        return self.answer(checkpoint.state) if callable(self.answer) else self.answer


ONE = FieldStatistics([-1.0], [1.0], [0.0], [1.0])
SCALED = {
    "infinite": (FieldStatistics([-1.0], [float("inf")], [0.0], [1.0]), r"scaling of the actions .* \(maximum\)"),
    "NaN": (FieldStatistics([-1.0], [1.0], [float("nan")], [1.0]), r"scaling of the actions .* \(mean\)"),
    "uneven": (FieldStatistics([-1.0, 1.0], [1.0], [0.0], [1.0]), "has 1 and 2 dimensions"),
}


@pytest.mark.parametrize(("field", "says"), SCALED.values(), ids=SCALED)
def test_scaling_that_is_no_scaling(field: FieldStatistics, says: str) -> None:
    good = Says(answer=Imported({}, statistics=Statistics(ONE)))
    assert converted(good, Checkpoint(Path("x.pt"), state())).statistics == Statistics(ONE)
    with pytest.raises(WeightsError, match=says):
        converted(Says(answer=Imported({}, statistics=Statistics(field))), Checkpoint(Path("x.pt"), state()))


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "arithmetic": (lambda _: 1 / 0, WeightsError, "'says' can make nothing of x.pt: names or shapes"),
    "an axis": (lambda found: found["net.a.bias"].shape[1], WeightsError, "IndexError: tuple index out of range"),
    "a name": (lambda found: found["net.c"], WeightsError, r"KeyError: 'net\.c'"),
    "nothing": (None, PluginError, "'says' returns NoneType, not videopolicy.Imported"),
    "lists": (Imported({"all": {"w": [1.0]}}), PluginError, "gives 'w' in 'all' as list"),
    "numbers": (Imported({"all": {3: torch.ones(1)}}), PluginError, "gives 3 in 'all'"),
    "twice": (Imported({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}), PluginError, "twice, in 'a' and"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "error", "says"), BAD.values(), ids=BAD)
def test_an_importer_that_is_at_its_wits_end(answer: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as ended:
        converted(Says(answer=answer), Checkpoint(Path("x.pt"), state()))
    assert ended.value.hint


def test_kinds_are_those_of_the_model() -> None:
    own = {"w": torch.ones(2), "steps": torch.tensor(3), "positions": torch.arange(3)}
    ensure_same_kinds(own, {"w": torch.ones(2).half(), "steps": torch.tensor(4)}, "x.pt")
    with pytest.raises(WeightsError, match="positions is float32 in the file and int64 in the model"):
        ensure_same_kinds(own, {"positions": torch.ones(3)}, "x.pt")
