"""Recordings come back as they were written, and others can take their place."""

from __future__ import annotations

import torch
from recordings import recorded, released_names, write


def test_a_recording_comes_back_as_it_was_written(tmp_path, monkeypatch):
    table = torch.randn(40).half()
    tree = {
        "meta": {"sizes": [1, 2.5], "text": None, "learned": True},
        "state": {"a": table[4:16].view(3, 4).T, "b": table[:5], "twin": table.clone()[1:3]},
        "draws": [["randint", torch.arange(3, dtype=torch.int16)], ["rand", torch.rand(2, dtype=torch.float64)]],
    }
    write(tree, tmp_path, "small")
    monkeypatch.setattr("recordings.FOLDER", tmp_path)
    found = recorded("small")
    assert found["meta"] == tree["meta"]
    for name, value in tree["state"].items():
        assert torch.equal(found["state"][name], value) and found["state"][name].dtype == torch.float16
    a, b, twin = (found["state"][name].untyped_storage().data_ptr() for name in ("a", "b", "twin"))
    assert a == b == twin  # one table, stored once
    for (kind, value), (wanted_kind, wanted) in zip(found["draws"], tree["draws"], strict=True):
        assert kind == wanted_kind and value.dtype == wanted.dtype and torch.equal(value, wanted)


def test_recordings_of_other_sizes_take_the_place_of_these(tmp_path, monkeypatch):
    monkeypatch.delenv("VPOLICY_SHARED", raising=False)
    here, names = recorded("uva")["meta"], released_names()
    (tmp_path / "oracles").mkdir()
    torch.save({"meta": {"size": 3}}, tmp_path / "oracles" / "uva.pt")
    monkeypatch.setenv("VPOLICY_SHARED", str(tmp_path))
    assert recorded("uva") == {"meta": {"size": 3}}
    assert here["method"] == "UVA" and recorded("vpp")["meta"]["method"] == "VPP"
    assert released_names() == names and len(names) > 1000
