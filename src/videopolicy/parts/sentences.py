"""Sentences that conditions are made of, in whatever form a file holds them."""

from __future__ import annotations

import ast
import json
from typing import NamedTuple

import numpy as np

from videopolicy.errors import DataError

_ABSENT = ("", "none", "null", "nan")
"""What converters write where there was no sentence."""
_HINT = "Store one sentence as text, or give the sentences in the recipe where the dataset's options allow it."


class Sentence(NamedTuple):
    """A sentence.

    Args:
        text: Without blanks around it; empty where there is none.
        changed: How it was made from what is stored, such as ``words joined by blanks``; empty for plain text.
    """

    text: str
    changed: str = ""


def read_sentence(value: object, where: str) -> Sentence:
    """The sentence that a file holds as text, bytes, a list or array of words, or as JSON of one of these.

    Parsers of task files give lists of words, which converters store as they are, as JSON, or as Python prints them; a
    policy is to be conditioned on the sentence and not on brackets and quotation marks.

    Args:
        value: What is stored; None is no sentence.
        where: File and place, for messages.

    Raises:
        DataError: It is no text, is not UTF-8, or holds several sentences.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise DataError(f"{where}: the sentence {value!r} is not UTF-8.", _HINT) from None
    if value is None:
        return Sentence("")
    if isinstance(value, list | tuple):
        return _joined([read_sentence(part, where) for part in value], where)
    if not isinstance(value, str):
        raise DataError(f"{where}: the sentence is {value!r}, which is no text.", _HINT)
    text = value.strip().strip("\0")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # what h5py makes of bytes that are not UTF-8
        raise DataError(f"{where}: the sentence {text!r} is not UTF-8.", _HINT)
    if text.lower() in _ABSENT:
        return Sentence("")
    written = _written(text)
    if written is None:
        # Some files have a single mark left over.
        return Sentence(text.strip('"').strip() if text.count('"') == 1 else text)
    inner = read_sentence(written, where)
    if isinstance(written, str) or not inner.text:
        return inner
    return Sentence(inner.text, inner.changed or "a list in text")


def _joined(parts: list[Sentence], where: str) -> Sentence:
    texts = [part.text for part in parts if part.text]
    if len(texts) > 1 and any(" " in text for text in texts):
        raise DataError(
            f"{where}: {len(texts)} sentences are stored, {texts[0]!r} and {texts[1]!r} among them; which of them "
            "belongs to the episode is not said.",
            _HINT,
        )
    if len(texts) == 1:
        return Sentence(texts[0], parts[0].changed or "a list of one sentence")
    return Sentence(" ".join(texts), "words joined by blanks" if texts else "")


def _written(text: str) -> object:
    """The list or the text that a text is JSON of, or Python's way to print it; None for plain text."""
    if text[0] + text[-1] not in ("[]", "()", '""', "''"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, str | list | tuple) and found != text:
            return found
    return None
