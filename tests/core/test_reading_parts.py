"""What readers of data share: sentences, files that can be read, and images in other layouts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from videopolicy import DataError
from videopolicy.parts.files import ensure_data, system_reason
from videopolicy.parts.pictures import oddity
from videopolicy.parts.sentences import read_sentence

WORDS = ["turn", "on", "the", "stove"]


@pytest.mark.parametrize(
    ("value", "changed"),
    [
        ("turn on the stove", False),
        ("  turn on the stove\n", False),
        ('"turn on the stove"', False),
        ('turn on the stove"', False),
        (b"turn on the stove", False),
        (np.str_("turn on the stove"), False),
        (np.bytes_(b"turn on the stove"), False),
        (np.array("turn on the stove"), False),
        (WORDS, True),
        (tuple(WORDS), True),
        (np.array(WORDS), True),
        (np.array([word.encode() for word in WORDS]), True),
        (np.array(WORDS, object), True),
        ([WORDS], True),
        (["turn on the stove"], True),
        (json.dumps(WORDS), True),
        (str(WORDS), True),
        (str(tuple(WORDS)), True),
        (json.dumps(json.dumps(WORDS)), True),
        (json.dumps(WORDS).encode(), True),
    ],
)
def test_one_sentence_comes_of_whatever_holds_it(value: object, changed: bool) -> None:
    found = read_sentence(value, "x.hdf5")
    assert found.text == "turn on the stove" and bool(found.changed) == changed


@pytest.mark.parametrize(
    "value", [None, "", "  ", b"", [], "[]", "null", "None", "nan", np.array([]), [None], ["", " "]]
)
def test_nothing_is_no_sentence(value: object) -> None:
    assert read_sentence(value, "x.hdf5") == ("", "")


@pytest.mark.parametrize(
    "value", ["pick up (the red) cup", "[the cup", "say 'hi' and 'bye'", "[A] to [B]", '5" pipe "']
)
def test_marks_inside_of_a_sentence_stay(value: str) -> None:
    assert read_sentence(value, "x.hdf5") == (value, "")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, "3, which is no text"),
        (float("nan"), "no text"),
        (True, "no text"),
        ({"en": "lift"}, "no text"),
        ([1, 2], "no text"),
        (np.zeros(2), "no text"),
        (["lift it", "raise it"], "2 sentences are stored, 'lift it' and 'raise it' among them"),
        (b"\xff\xfe", "is not UTF-8"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_what_is_no_sentence_is_named(value: object, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_sentence(value, "x.hdf5, 'lang'")
    assert caught.value.message.startswith("x.hdf5, 'lang': ") and caught.value.hint


def test_only_files_and_folders_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for path in (tmp_path, tmp_path / "file", tmp_path / "link"):
        ensure_data(path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, says in (
        ("pipe", "is a named pipe"),
        ("to-pipe", "is a named pipe"),
        ("dangling", "is a link to .*gone, which does not exist"),
        ("circle", "links lead in a circle"),
        ("absent", "does not exist"),
        ("/dev/null", "is a device"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            ensure_data(tmp_path / name)
        assert caught.value.hint


def test_numbers_of_the_system_have_words() -> None:
    assert system_reason(None) is None and system_reason(28) is None
    for number in (1, 2, 5, 13, 23, 24):
        reason, hint = system_reason(number) or ("", "")
        assert reason and hint.endswith(".")


def test_images_as_they_should_be_have_nothing_odd() -> None:
    assert oddity((4, 8, 8, 3), np.dtype(np.uint8), lambda: np.zeros(0)) is None
    assert oddity((4, 3), np.dtype(np.float32), lambda: np.zeros(0)) is None
    what, hint = oddity((4, 8, 8, 3), np.dtype(np.float32), lambda: np.full((8, 8, 3), 0.5)) or ("", "")
    assert "up to 0.5" in what and "multiplied by 255" in hint
