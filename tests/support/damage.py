"""What crashes, full disks and people do to files."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

TEXTS = {".json", ".jsonl", ".csv", ".yaml", ".html", ".txt", ".log", ".md", ".py"}


def emptied(path: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def zeroed(path: Path, draw: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path, draw: random.Random) -> None:
    """A bit of a binary file; in a text, where a digit would become another digit, a byte that is no text."""
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 0x80 if path.suffix in TEXTS else 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def scribbled(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(min(path.stat().st_size, 4096)))


def of_another_kind(path: Path, draw: random.Random) -> None:
    path.write_text(draw.choice(("[]", "3", "null", "{}", '"text"', "[[]]", '{"version": 999}', "true\n")))


def deleted(path: Path, draw: random.Random) -> None:
    path.unlink()


def a_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def a_broken_link(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.with_name("moved away"))


def a_pipe(path: Path, draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


KINDS: tuple[Callable[[Path, random.Random], None], ...] = (
    *(
        emptied,
        cut,
        cut,
        zeroed,
        flipped,
        flipped,
        scribbled,
        of_another_kind,
        deleted,
        a_folder,
        a_broken_link,
        a_pipe,
    ),
)


def damageable(*folders: Path) -> list[Path]:
    """All regular files below the folders, in order, save for locks, which hold nothing."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if path.name != ".lock" and path.suffix != ".lock" and not path.is_symlink()]


def damage(path: Path, draw: random.Random) -> str:
    """Do something to a file.

    Returns:
        What was done, for a message.
    """
    kind = draw.choice(KINDS)
    kind(path, draw)
    return f"{path.name} {kind.__name__.replace('_', ' ')}"


def remove(path: Path) -> None:
    """As a user removes what a message has named."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
