"""Two hundred recipes with something wrong in them: each is checked, or ends in one message and exit code 2."""

from __future__ import annotations

import copy
import datetime
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import vpolicy

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SHIPPED = sorted([*RECIPES.glob("*.yaml"), *RECIPES.glob("ablations/*.yaml")])
PIECES, EACH = 10, 20
SECONDS = 60  # one that takes longer hangs: a recipe of this size is checked in milliseconds

TEXTS = (
    *(
        "\0",
        "\x08",
        "\x1b[31m",
        "\x85",
        "\ufeff",
        "\u202e",
        "\t",
        "\r",
        "{{ data_dir }}",
        "${HOME}",
        "%YAML 9.9\n---\n",
    ),
    *("!!python/object/apply:os.system ['true']", "!!int abc", "!!binary x", "!!timestamp never", "!unknown 1"),
    *("&a [*a]", "*nowhere", "&a {<<: *a}", "<<: 3\n", "<<: [1, 2]\n", "? [a, b]\n: c\n", "? {a: b}\n: c\n"),
    *("2025-02-30", "2025-02-03T99:99:99Z", "0x_", "0b", "1:99:99", "1_000_", ".inf", "-.nan", "1e999", "=", "@", "`"),
    *("\n---\nb: c\n", "\n...\n", "[", "]", "{", "}", '"', "'", "- ", ": ", "#", "|", ">-\n", "? ", "a: b: c"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 10**18, 10**400, 0.5, -1e-300, 1e308, float("inf"), float("nan")),
    *("", " ", "\0", "\n", "x" * 300, "x" * 70_000, "..", ".", "/", "~", "~nobody/x", "../../x", "/dev/zero", "/proc"),
    *(
        "type",
        "none",
        "NaN",
        "[red]bold[/]",
        "\x1b]0;title\x07",
        "\U0001f600",
        "a.b.c",
        "policy",
        "e\u0301",
        "-1",
        "1e3",
    ),
    *([], [[]], [None], [1, [2, [3]]], ["x"] * 50, {}, {"type": None}, {"type": "nothing"}, {"type": ["svd"]}),
    *({1: 2}, {None: 3}, {True: 1}, {"": 1}, {"type": "modular"}, {"type": "svd", "frames": -3}),
    *(datetime.date(2025, 2, 3), datetime.datetime(2025, 2, 3, 4, 5), b"bytes", {"a", "b"}),
)


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in nested mappings and lists, the whole excepted."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def within(tree: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        tree = tree[key]
    return tree


def another_value(tree: Any, draw: random.Random) -> None:
    at = draw.choice(list(places(tree)))
    within(tree, at[:-1])[at[-1]] = copy.deepcopy(draw.choice(VALUES))


def left_out(tree: Any, draw: random.Random) -> None:
    at = draw.choice(list(places(tree)))
    del within(tree, at[:-1])[at[-1]]


def another_key(tree: Any, draw: random.Random) -> None:
    at = draw.choice([at for at in places(tree) if isinstance(at[-1], str)])
    around = within(tree, at[:-1])
    key = draw.choice((at[-1] + "x", at[-1][:-1], "", 3, None, 1.5, True, datetime.date(2025, 2, 3), "type", "x" * 300))
    around[key] = around.pop(at[-1])


def moved(tree: Any, draw: random.Random) -> None:
    ways = list(places(tree))
    one, other = draw.choice(ways), draw.choice(ways)
    within(tree, one[:-1])[one[-1]] = copy.deepcopy(within(tree, other))


def repeated(tree: Any, draw: random.Random) -> None:
    lists = [at for at in places(tree) if isinstance(within(tree, at), list)]
    if lists:
        items = within(tree, draw.choice(lists))
        items += copy.deepcopy(items)


def wrapped(tree: Any, draw: random.Random) -> None:
    at = draw.choice(list(places(tree)))
    around, value = within(tree, at[:-1]), within(tree, at)
    around[at[-1]] = draw.choice(([value], {"value": value}, {str(at[-1]): value}, str(value)))


TREES: tuple[Callable[[Any, random.Random], None], ...] = (
    another_value,
    another_value,
    another_value,
    left_out,
    another_key,
    moved,
    repeated,
    wrapped,
)


def mutated(text: str, draw: random.Random) -> bytes:
    """The text with one to three changes: of its bytes, or of what it means."""
    if draw.random() < 0.4:
        raw = text.encode()
        for _ in range(draw.randint(1, 3)):
            start = draw.randrange(len(raw))
            end = min(len(raw), start + draw.choice((1, 3, 20, 200)))
            inserted = draw.choice(TEXTS).encode()
            raw = draw.choice(
                (
                    raw[:start] + raw[end:],
                    raw[:end] + raw[start:],
                    raw[:start] + inserted + raw[start:],
                    raw[:start] + inserted + raw[end:],
                    raw[:start] + bytes([draw.randrange(256)]) + raw[start + 1 :],
                    raw[:start],
                )
            )
        return raw
    tree = yaml.safe_load(text)
    for _ in range(draw.randint(1, 3)):
        if list(places(tree)):
            draw.choice(TREES)(tree, draw)
    return yaml.dump(tree, sort_keys=False, allow_unicode=True).encode()


@contextmanager
def patience(what: str) -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def over(number: int, frame: object) -> None:
        raise AssertionError(f"{what} was not checked within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def copied(origin: Path) -> str:
    """A recipe's text, such that it means the same in another folder."""
    text = origin.read_text(encoding="utf-8").replace("../", f"{RECIPES.as_posix()}/")
    return text.replace("extends: ", f"extends: {RECIPES.as_posix()}/")


@pytest.mark.parametrize("piece", range(PIECES))
def test_what_is_mutated_is_valid_before(piece: int, tmp_path: Path) -> None:
    for origin in SHIPPED[piece::PIECES]:
        path = tmp_path / origin.name
        path.write_text(copied(origin), encoding="utf-8")
        done = vpolicy(tmp_path, "check", path.name)
        assert done.returncode == 0, f"{origin.name}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("piece", range(PIECES))
def test_a_mutated_recipe_is_checked_or_ends_in_one_message(piece: int, tmp_path: Path) -> None:
    endings = []
    for number in range(piece * EACH, (piece + 1) * EACH):
        draw = random.Random(number)
        origin = draw.choice(SHIPPED)
        path = tmp_path / f"{number}.yaml"
        path.write_bytes(mutated(copied(origin), draw))
        try:
            with patience(f"mutation {number} of {origin.name}"):
                done = vpolicy(tmp_path, "check", path.name)
        except Exception as error:
            raise AssertionError(f"mutation {number} of {origin.name} ends in a traceback") from error
        said = done.stdout + done.stderr
        assert done.returncode in (0, 2), f"mutation {number} of {origin.name}: {said}"
        if done.returncode == 2:
            assert done.stderr.startswith("vpolicy: "), said
            assert len(done.stderr.strip().splitlines()) > 1, f"mutation {number} says nothing of what to do: {said}"
            assert len(said) < 20_000, f"mutation {number} ends in {len(said)} letters"
        endings.append(done.returncode)
    assert 2 in endings, "mutations that leave every recipe valid try nothing"
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".yaml"] == []
