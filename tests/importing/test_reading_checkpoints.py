"""Published files are read whatever objects lie in them, no pickled code runs unasked, and damage has one message."""

from __future__ import annotations

import copyreg
import logging
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from videopolicy.errors import WeightsError
from videopolicy.importing.reading import read_checkpoint

STATE = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.tensor([1.0, -1.0], dtype=torch.float16)}


class Settings(dict):
    """As a configuration library's mapping, pickled by reference."""


class Box:
    """As a configuration library's node: it has a state of its own."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Runs:
    """Pickles to a call, whose function may itself be the result of a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __call__(self) -> None:
        """Only so that it may stand for a function."""

    def __reduce__(self) -> Any:
        return self.call


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older layout"])
class TestTorchFiles:
    def test_a_state_dict(self, tmp_path: Path, zipped: bool) -> None:
        torch.save(STATE, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        read = read_checkpoint(tmp_path / "x.pt")
        same(read.state, STATE)
        assert read.inert == ()

    def test_a_training_checkpoint_with_objects_of_other_libraries(self, tmp_path: Path, zipped: bool) -> None:
        module = nn.Linear(3, 2).half()
        nested = Settings(a=Box([Box(1), {"deep": Box((2, Settings()))}]))
        loops: list[Any] = [Box(None)]
        loops[0].value = loops
        content = {
            "epoch": 3,
            "hyper_parameters": nested,
            "loops": loops,
            "count": defaultdict(list, a=[1]),
            "names": {"one", "two"},
            "space": types.SimpleNamespace(x=Box("y")),
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
            "state_dict": module.state_dict(),
            "parameters": OrderedDict(module.named_parameters()),
        }
        torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
        read = read_checkpoint(tmp_path / "x.ckpt")
        same(read.state, dict(module.state_dict()))
        same(read.tensors("parameters"), {k: v.detach() for k, v in module.named_parameters()})
        assert read.content["epoch"] == 3 and read.content["names"] == {"one", "two"}
        assert {name.rsplit(".", 1)[1] for name in read.inert} >= {"Settings", "Box", "SimpleNamespace"}

    @pytest.mark.parametrize("protocol", [2, 4])
    def test_code_runs_with_trust_only(self, tmp_path: Path, zipped: bool, protocol: int) -> None:
        path = tmp_path / "x.ckpt"
        for name, attack in attacks(tmp_path / "harm").items():
            content = {"state_dict": STATE, "config": attack}
            torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
            same(read_checkpoint(path).state, STATE)
            assert not (tmp_path / "harm").exists(), f"{name} ran"
            same(read_checkpoint(path, trust=True).state, STATE)
            assert (tmp_path / "harm").exists(), f"{name} is no attack"
            (tmp_path / "harm").unlink()


def attacks(harm: Path) -> dict[str, Any]:
    """Objects that make the file ``harm`` when they are unpickled."""
    system = Runs(getattr, (Runs(__import__, ("os",)), "system"))
    touch = Runs(getattr, (harm, "touch"))
    return {
        "os.system": Runs(os.system, (f"touch {harm}",)),
        "a file that is opened": Runs(open, (str(harm), "w")),
        "exec": Runs(exec, (f"open({str(harm)!r}, 'w').close()",)),
        "getattr of an import": Runs(system, (f"touch {harm}",)),
        "getattr of an object": Runs(touch, ()),
        "a constructor behind copyreg": Runs(
            copyreg._reconstructor, (logging.FileHandler, logging.FileHandler, str(harm))
        ),
        "something in a container": OrderedDict(a=[Runs(touch, ())]),
        "a tensor's hook": Runs(torch._utils._rebuild_parameter, (torch.ones(1), True, Runs(touch, ()))),
    }


# Opcodes of a pickle of protocol 4: a global whose name is on the stack, and a call of it with one string.
def called(module: str, name: str, argument: str) -> bytes:
    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [("torch.serialization", "os.system"), ("torch._utils", "sys.modules"), ("collections", "OrderedDict.__init__")],
)
def test_dotted_names_do_not_reach_through_what_is_permitted(tmp_path: Path, module: str, name: str) -> None:
    path, harm = tmp_path / "x.pt", tmp_path / "harm"
    pickles = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join(pickles) + called(module, name, f"touch {harm}") + pickle.dumps([], 2))
    read = read_checkpoint(path)
    assert read.inert == (f"{module}.{name}",) and not harm.exists()
    if name == "os.system":
        read_checkpoint(path, trust=True)
        assert harm.exists()


def test_a_pickle_cannot_alter_what_it_is_given(tmp_path: Path) -> None:
    function = torch._utils._rebuild_tensor_v2
    before = dict(vars(function))

    class Alters(pickle._Pickler):
        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            super().save(obj, save_persistent_id)
            if obj is function:
                super().save({"altered": 1})
                self.write(pickle.BUILD)

    module = types.SimpleNamespace(__name__="pickle", Pickler=Alters, dump=None)
    with (tmp_path / "x.pt").open("wb") as file:
        torch.save(STATE, file, pickle_module=module)
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(tmp_path / "x.pt")
    assert dict(vars(function)) == before


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_archives_are_not_run(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="TorchScript"):
        read_checkpoint(tmp_path / "x.pt")


def test_safetensors_under_any_name(tmp_path: Path) -> None:
    for name in ("x.safetensors", "x.bin"):
        save_file(STATE, tmp_path / name)
        found = read_checkpoint(tmp_path / name).state
        same({key: found[key] for key in STATE}, STATE)


def test_code_that_is_not_installed_is_named_when_trusted(tmp_path: Path) -> None:
    module = types.ModuleType("gone_away")
    module.Node = type("Node", (), {"__module__": "gone_away"})
    sys.modules["gone_away"] = module
    torch.save({"state_dict": STATE, "node": module.Node()}, tmp_path / "x.pt")
    del sys.modules["gone_away"]
    assert read_checkpoint(tmp_path / "x.pt").inert == ("gone_away.Node",)
    with pytest.raises(WeightsError, match="not installed: No module named 'gone_away'"):
        read_checkpoint(tmp_path / "x.pt", trust=True)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "good.pt")
    save_file(STATE, tmp_path / "good.safetensors")
    torch.save(STATE, tmp_path / "older.pt", _use_new_zipfile_serialization=False)
    cases: dict[str, tuple[bytes, str]] = {
        "empty.pt": (b"", "is empty"),
        "page.ckpt": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        "pointer.bin": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git LFS"),
        "text.pt": (b"hello, world", "no checkpoint"),
        "zeros.pt": (bytes(4096), "no checkpoint"),
        "half.pt": ((tmp_path / "good.pt").read_bytes()[:700], "cut short"),
        "half-older.pt": ((tmp_path / "older.pt").read_bytes()[:-20], "cut short"),
        "early.pt": ((tmp_path / "older.pt").read_bytes()[:200], "cut short"),
        "half.safetensors": ((tmp_path / "good.safetensors").read_bytes()[:-5], "cut short"),
        "text.safetensors": (b"hello, world", "no checkpoint"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=said) as refused:
            read_checkpoint(tmp_path / name)
        assert str(tmp_path / name) in refused.value.message and refused.value.hint
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "good.pt", "checkpoints/good.pt")
    with pytest.raises(WeightsError, match=r"archive with checkpoints/good\.pt"):
        read_checkpoint(tmp_path / "all.zip")
    with pytest.raises(WeightsError, match=r"no checkpoint .*goo\.pt") as refused:
        read_checkpoint(tmp_path / "goo.pt")
    assert "good.pt?" in refused.value.hint
    with pytest.raises(WeightsError, match="is a folder") as refused:
        read_checkpoint(tmp_path)
    assert "good.safetensors" in refused.value.hint


def test_files_without_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": {"step": 3}, "epoch": 1}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: state_dict holds no weights; its entries are step"):
        _ = read_checkpoint(tmp_path / "x.pt").state
    with pytest.raises(WeightsError, match="has no entry 'ema'; it has epoch, state_dict"):
        read_checkpoint(tmp_path / "x.pt").tensors("ema")
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="holds no weights"):
        _ = read_checkpoint(tmp_path / "x.pt").state


def test_a_large_file_stays_on_disk(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1 << 24)}, "config": Settings(a=1)}, tmp_path / "x.ckpt")
    code = f"""
import re, threading, time
from pathlib import Path
from safetensors.torch import save_file
from videopolicy.importing.reading import read_checkpoint

def own():  # KiB in memory that no file could give back
    return int(re.search(r"RssAnon:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

def watch():
    while True:
        most[0] = max(most[0], own())
        time.sleep(0.002)

first, most = own(), [0]
threading.Thread(target=watch, daemon=True).start()
save_file(read_checkpoint(Path({str(tmp_path / "x.ckpt")!r})).state, {str(tmp_path / "x.safetensors")!r})
print(max(most[0], own()) - first)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Four bytes each: reading into memory would take 64 MiB.
    assert int(done.stdout) < 32 << 10
