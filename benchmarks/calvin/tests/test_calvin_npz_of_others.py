"""CALVIN recordings that others have made otherwise: what is read all the same, and what is named."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from vpolicy_calvin.components import Calvin, CalvinNpz
from vpolicy_calvin.frames.pickled import read_pickled

from videopolicy import DataError, Window
from videopolicy.console.progress import Reporter


def test_training_is_usable_though_validation_has_no_annotations(copied):
    whole = CalvinNpz(path=copied).build(None)
    assert whole.remarks == () and set(whole.splits) == {"train", "validation"}
    (copied / "validation" / "lang_annotations" / "auto_lang_ann.npy").unlink()
    dataset = CalvinNpz(path=copied).build(None)
    assert dataset.splits == {"train": 3} and dataset.statistics() == whole.statistics()
    (remark,) = dataset.remarks
    assert "validation has no lang_annotations/auto_lang_ann.npy: there is no split `validation`" in remark
    with pytest.raises(DataError, match="no split 'validation'") as caught:
        dataset.windows(Window(), "validation")
    assert "with its annotations" in caught.value.hint
    shutil.rmtree(copied / "validation")
    (remark,) = CalvinNpz(path=copied).build(None).remarks
    assert "validation is not there" in remark


def test_sentences_in_pieces_are_joined_and_said(copied):
    path = copied / "training" / "lang_annotations" / "auto_lang_ann.npy"
    content = read_pickled(path)
    plain = CalvinNpz(path=copied).build(None)
    content["language"]["ann"][0] = content["language"]["ann"][0].split()
    content["language"]["ann"][1] = content["language"]["ann"][1].encode()
    np.save(path, content)
    dataset = CalvinNpz(path=copied).build(None)
    assert dataset.fingerprint() == plain.fingerprint()
    assert dataset.windows(Window()).batch([0]).observation.instructions == ["pull the handle of the drawer"]
    (remark,) = dataset.remarks
    assert "1 segments are not stored as plain text (words joined by blanks)" in remark
    for sentence, says in ((None, "is no annotation"), (3, "no text"), (["open it", "pull it"], "2 sentences")):
        content["language"]["ann"][0] = sentence
        np.save(path, content)
        with pytest.raises(DataError, match=says) as caught:
            CalvinNpz(path=copied).build(None)
        assert "auto_lang_ann.npy, entry 0" in caught.value.message


@pytest.mark.parametrize("span", [(0, 10**12), (0.5, 3), (-1, 3), (1, 2, 3), ("a", "b"), (np.nan, 3), None])
def test_stretches_that_are_none_are_told(copied, span):
    path = copied / "training" / "lang_annotations" / "auto_lang_ann.npy"
    content = read_pickled(path)
    content["info"]["indx"][1] = span
    np.save(path, content)
    with pytest.raises(DataError, match=r"entry 1: .* is no annotation"):
        CalvinNpz(path=copied).build(None)


def test_a_pipe_in_place_of_a_frame_is_not_waited_for(copied, tmp_path):
    path = copied / "training" / "episode_0000012.npz"
    path.unlink()
    os.mkfifo(path)
    for build in (lambda c: c.build(None), lambda c: c.open(None, tmp_path / "cache", Reporter(quiet=True))):
        with pytest.raises(DataError, match=r"episode_0000012\.npz is a named pipe"):
            build(CalvinNpz(path=copied))


def test_a_limit_of_the_machine_is_not_called_damage(recorded, monkeypatch):
    def refused(*arguments: object, **options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(np, "load", refused)
    with pytest.raises(DataError, match="may not open more files") as caught:
        CalvinNpz(path=recorded).build(None)
    assert "ulimit" in caught.value.hint


def test_what_the_recordings_are_is_known_before_they_are_opened(recorded):
    component = CalvinNpz(path=recorded, cameras=("rgb_gripper",))
    misfits = Calvin().spaces().misfits(component.declared(), "the benchmark", "the data section")
    assert misfits == [("cameras", "the benchmark uses camera 'rgb_static', the data section has rgb_gripper")]
