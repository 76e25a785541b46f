"""What others have written reaches a terminal as text: no codes, no markup, nothing that its encoding lacks."""

from __future__ import annotations

import io
import sys

import pytest
from rich.table import Table
from rich.text import Text

from videopolicy.cli import main as entry
from videopolicy.console.progress import Reporter
from videopolicy.console.terminal import Terminal
from videopolicy.console.text import clean, forgiving_streams, say
from videopolicy.errors import DataError

HOSTILE = "a\x1b]0;title\x9cb\x9b31mc\u202ed\udcffe[red]f[/] :smile:"
SHOWN = "a\ufffd]0;title\ufffdb\ufffd31mc\ufffdd\ufffde[red]f[/] :smile:"


def terminal(width: int = 80, **options: object) -> tuple[Terminal, io.StringIO]:
    file = io.StringIO()
    return Terminal(file=file, width=width, **options), file


def ascii_stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")


def test_codes_are_replaced_and_text_of_any_language_is_not():
    assert clean(HOSTILE) == SHOWN
    whole = "打开抽屉\tÅngström\n\N{ARABIC LETTER ALEF} 🤖\u200d"
    assert clean(whole) == whole
    assert clean("bell\x07") == "bell\ufffd"
    assert clean("two\r\nlines") == "two\nlines"


def test_printed_lines_are_clean(capsys: pytest.CaptureFixture[str]):
    say(HOSTILE)
    say("b\x1b[2J", error=True)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == (SHOWN + "\n", "b\ufffd[2J\n")


def test_a_table_shows_cells_as_they_are_and_stays_in_line():
    console, file = terminal(force_terminal=True, color_system=None)
    table = Table(HOSTILE, "n", title=HOSTILE)
    table.add_row(HOSTILE, Text(HOSTILE, "bold"))
    table.add_row("[link=file:///etc/passwd]x[/link]", "[/]")
    console.print(HOSTILE, Text(HOSTILE), table)
    text = file.getvalue()
    assert "[link=file:///etc/passwd]x[/link]" in text and "[/]" in text
    assert not set(text) & set("\x1b\x07\x9b\u202e\udcff") and text.count("\ufffd]0;title") >= 5
    rows = [line for line in text.splitlines() if "│" in line or "┃" in line]
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_progress_shows_names_as_they_are(on_a_terminal: bool):
    console, file = terminal(120, force_terminal=on_a_terminal, color_system=None)
    reporter = Reporter(console=console)
    with reporter.activity(f"train {HOSTILE}", 2) as progress:
        progress.advance(text="[/] \x1b[2J\x07")
    reporter.line(HOSTILE)
    text = file.getvalue()
    assert SHOWN in text and "\x1b]" not in text and "\x1b[2J" not in text and "\x07" not in text
    assert not on_a_terminal or f"train {SHOWN.partition(':')[0]}" in text


def test_a_stream_that_lacks_characters_shows_others(monkeypatch: pytest.MonkeyPatch):
    out, err = ascii_stream(), ascii_stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with forgiving_streams():
        say("打开")
        table = Table("instruction", "n")
        table.add_row("打开抽屉", "3")
        Terminal().print(table)
        reporter = Reporter(console=Terminal(stderr=True, force_terminal=True))
        with reporter.activity("打开", 3) as progress:
            progress.advance(text="Ångström")
        reporter.line("Ångström")
    out.flush(), err.flush()
    assert out.buffer.getvalue().startswith(b"??\n") and b"????" in out.buffer.getvalue()
    assert b"?ngstr?m" in err.buffer.getvalue()


def raising(error: BaseException):
    def command(prog_name: str) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("bad \x1b[2J name \udcff", "do [/] that"), "vpolicy: bad \ufffd[2J name \ufffd\ndo [/] that\n"),
        (OSError(24, "Too many open files", "x.h5"), "vpolicy: x.h5: Too many open files.\nRaise the limit with"),
        (OSError(36, "File name too long", "x" * 300), "File name too long.\nChoose a shorter name."),
        (PermissionError(13, "Permission denied", "/secret"), "vpolicy: /secret: Permission denied.\nGive yourself"),
        (OSError(40, "Too many levels of symbolic links", "a"), "Links lead in a circle"),
        (OSError(28, "No space left on device"), "vpolicy: No space left on device.\nMake room"),
    ],
)
def test_errors_end_in_one_message(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(entry, "app", raising(error))
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_name_that_the_file_system_encoding_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    monkeypatch.setattr(entry, "app", raising(UnicodeEncodeError("ascii", "été.hdf5", 0, 1, "ordinal not in range")))
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 2 and "PYTHONUTF8=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No", "x"), KeyError()]
)
def test_what_no_user_can_act_on_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(entry, "app", raising(error))
    with pytest.raises(type(error)):
        entry.main()
