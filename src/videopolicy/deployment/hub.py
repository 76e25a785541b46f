"""Policies on the Hugging Face Hub: how they are named, fetched, and what is said where the Hub gives or takes none."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.deployment.exporting import FILES, PLUGINS
from videopolicy.deployment.frozen import REPOSITORY
from videopolicy.errors import HubError, StorageError, VpolicyError, listing
from videopolicy.paths import expanded
from videopolicy.storage.run_folder import RunFolder
from videopolicy.training.weight_files import CONFIG, NORMALIZATION, WEIGHTS

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

REQUIRED = (WEIGHTS, CONFIG, NORMALIZATION, "recipe.yaml")
"""Files without which a repository holds no policy."""

_NAME = re.compile(rf"(?P<repository>{REPOSITORY})(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class HubName:
    """What a policy is called on the Hub.

    Args:
        repository: ``user/name``.
        revision: Branch, tag or commit; None: the newest.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def read(cls, text: str) -> HubName | None:
        """The name that is written ``user/name`` or ``user/name@revision``; None for anything else."""
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        if (found := _NAME.fullmatch(text)) is None:
            return None
        try:
            validate_repo_id(found["repository"])
        except HFValidationError:
            return None
        return cls(found["repository"], found["revision"])

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def located(name: str | Path) -> Path:
    """The folder of a policy, fetched from the Hub where the name is no local one's.

    Args:
        name: A folder, ``user/name`` or ``user/name@revision``. Where there is a folder ``user`` here, only a name with
            a revision is asked for on the Hub: the other is taken for a mistyped folder.

    Raises:
        HubError: The Hub does not give it, or gives something else than a policy.
        StorageError: It would be in a local folder, which does not have it.
    """
    path = expanded(str(name))
    if path.exists() or (found := HubName.read(str(name))) is None:
        return path
    if found.revision is None and path.parent.is_dir():
        try:
            RunFolder(path).ensure_exists()
        except StorageError as error:
            asked = f"As {found}@main it is looked for on the Hub, although there is a folder {path.parent} here."
            raise StorageError(error.message, f"{error.hint} {asked}") from None
    return fetched(found)


def fetched(name: HubName) -> Path:
    """A policy from the Hub, or from the Hub's local cache where the Hub cannot be reached.

    Raises:
        HubError: There is none, or it cannot be had.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(f"'{name}', which is no folder here, cannot be loaded from the Hub", name):
        wanted = [*FILES, f"{PLUGINS}/*.py"]
        folder = Path(snapshot_download(name.repository, revision=name.revision, allow_patterns=wanted))
    if missing := [file for file in REQUIRED if not (folder / file).is_file()]:
        whole = len(missing) == len(REQUIRED)
        what = "holds no policy of videopolicy" if whole else "holds an incomplete policy"
        raise HubError(
            f"'{name}' on the Hub {what}: it has no {listing(missing)}.",
            "Name a repository that `vpolicy push` has written, or a whole revision of it as USER/NAME@REVISION.",
        )
    return folder


@contextmanager
def hub_errors(what: str, name: HubName) -> Iterator[None]:
    """Turn whatever keeps the Hub from answering into one error that says what to do.

    Args:
        what: What was not done, the beginning of the message.
        name: What was asked for.

    Raises:
        HubError: The client of the Hub has raised something.
        OSError: This machine's disk is the reason.
    """
    try:
        yield
    except VpolicyError:
        raise
    except Exception as error:  # its client raises its own errors, those of two HTTP libraries, OSError and ValueError
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        reason, hint = _explained(error, name)
        raise HubError(f"{what}: {reason}.", hint) from error


def _explained(error: Exception, name: HubName) -> tuple[str, str]:
    """Why something failed, and what to do."""
    from huggingface_hub import constants, errors

    chain = [error]
    while (cause := chain[-1].__cause__) is not None and isinstance(cause, Exception):
        chain.append(cause)
    hub, log_in = constants.ENDPOINT, "log in with `hf auth login`, or set HF_TOKEN"
    page = f"{hub}/{name.repository}"
    for one in chain:
        if isinstance(one, errors.GatedRepoError):
            return "its owner gives access on request", f"Ask for it at {page}, and {log_in}."
        if isinstance(one, errors.RevisionNotFoundError):
            return f"it has no revision '{name.revision or 'main'}'", f"See {page}/commits for its revisions."
        if isinstance(one, errors.RepositoryNotFoundError):
            reason = "there is no such repository that may be read from here"
            return reason, f"Check the name; to read a private one, {log_in}."
        if isinstance(one, errors.OfflineModeIsEnabled):
            reason = "HF_HUB_OFFLINE is set, and what is cached here is not enough"
            return reason, "Unset it where there is a network."
        if isinstance(one, errors.HfHubHTTPError):
            return _answered(one, name, hub)
    if type(error) is ValueError:  # what the client has found wrong
        return _line(str(error)), "Correct what it names."
    if isinstance(error, LookupError | TypeError | AssertionError):
        reason = f"the answer of {hub} cannot be understood ({type(error).__name__}: {_line(str(error))})"
        return reason, "See whether HF_ENDPOINT, where it is set, names a Hub."
    return f"{hub} cannot be reached ({_line(str(chain[-1]))})", "Try again where there is a network."


def _answered(error: HfHubHTTPError, name: HubName, hub: str) -> tuple[str, str]:
    """What an answer of the Hub means that is an error, and what to do."""
    status, said = error.response.status_code, _line(error.server_message or str(error))
    if status == 401:
        reason = "the Hub does not accept the token"
        return reason, f"Make one at {hub}/settings/tokens, and give it to `hf auth login` or as HF_TOKEN."
    if status == 403:
        user = name.repository.partition("/")[0]
        hint = f"Give the token write access to '{user}' at {hub}/settings/tokens, or choose a name of your own."
        return f"the token has no right to it ({said})", hint
    later = status in (408, 429) or status >= 500
    return f"the Hub answers {status} ({said})", "Try again later." if later else "Correct what it names."


def _line(text: str) -> str:
    """The first lines of a library's message as one."""
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:3])[:300] or "no reason given"
