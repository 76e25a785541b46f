"""``vpolicy``: puts the verbs together, and turns errors that a user can act on into a message and exit code 2."""

from __future__ import annotations

import codecs
import sys
from contextlib import suppress

from videopolicy.cli import (
    ablate,
    bench,
    check,
    compare,
    data,
    describe,
    env,
    export,
    import_weights,
    new,
    plugins,
    push,
    quality,
    recipes,
    report,
    run,
    serve,
    show,
    store,
    version,
)
from videopolicy.cli.interrupts import SignalError, end_within_a_while, interruptible
from videopolicy.cli.machine_errors import hint_for
from videopolicy.cli.verbs import Verbs
from videopolicy.components.registry import troubles
from videopolicy.console.text import clean, forgiving_streams, say
from videopolicy.console.threads import wait_briefly
from videopolicy.errors import VpolicyError

wait_briefly()  # before torch is imported

app = Verbs(
    help="Video models as robot policies: train, evaluate and compare them from one recipe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback()(version.options)
app.command("run")(interruptible(run.run))
app.command("ablate")(interruptible(ablate.ablate))
app.command("check")(interruptible(check.check))
app.command("compare")(interruptible(compare.compare))
app.command("quality")(interruptible(quality.quality))
app.command("bench")(interruptible(bench.bench))
app.command("import")(interruptible(import_weights.import_weights))
app.command("export")(interruptible(export.export))
app.command("push")(interruptible(push.push))
app.command("serve")(interruptible(serve.serve))
app.command("recipes")(recipes.recipes)
app.command("plugins")(plugins.plugins)
app.command("describe")(describe.describe)
app.command("new")(new.new)
app.command("show")(show.show)
app.command("report")(interruptible(report.report))
app.add_typer(env.app, name="env", help="Make and check simulators' environments.")
app.add_typer(data.app, name="data", help="Collect and inspect demonstrations.")
app.add_typer(store.app, name="store", help="List, verify and prune what runs have computed.")


def main() -> None:
    """Entry point of the ``vpolicy`` command."""
    told = ""
    try:
        with forgiving_streams():
            app(prog_name="vpolicy")
    except VpolicyError as error:
        told = error.message
        _say(error.message, error.hint)
        if isinstance(error, SignalError):
            end_within_a_while()  # libraries' own ends may wait for processes that have ended too
        sys.exit(error.exit_code)
    except OSError as error:
        hint = hint_for(error)
        if hint is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror}.", hint)
        sys.exit(2)
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8" or codecs.lookup(error.encoding) != codecs.lookup(sys.getfilesystemencoding()):
            raise
        _say(
            f"The surroundings' encoding, {error.encoding}, has no {clean(error.object[error.start : error.end])!r}, "
            f"which is in the name {error.object!r}.",
            "Set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8.",
        )
        sys.exit(2)
    finally:
        _name_broken_plugins(told)


def _name_broken_plugins(told: str) -> None:
    """Say once which packages are of no use, whatever was asked for: what they provide may be missed."""
    if sys.argv[1:2] == ["plugins"]:  # which lists them
        return
    for trouble in troubles():
        if trouble not in told:
            _say(trouble, "")


def _say(message: str, hint: str) -> None:
    with suppress(OSError):  # the terminal may have gone
        say(f"vpolicy: {message}\n{hint}".rstrip(), error=True)
