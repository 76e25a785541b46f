"""Errors of the operating system that a user can act on, with what to do; every other one is a bug."""

from __future__ import annotations

import errno

_ROOM = "Make room and run the same command again; what was finished is kept."
_RIGHTS = "Give yourself the right to it, or name another file or folder."
_DISK = "Look after that disk or network folder, and run the same command again; what was finished is kept."
_FILES = "Raise the limit with `ulimit -n 4096`, and run the same command again."

HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "Choose a folder on a writable disk.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Links lead in a circle: name what they should lead to.",
    errno.ENOTDIR: "A file stands where a folder is needed: move it away, or name another folder.",
    errno.EISDIR: "A folder stands where a file is needed: name a file.",
    errno.EMFILE: _FILES,
    errno.ENFILE: "The whole machine has too many open files: end other programs, and run the same command again.",
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
    errno.ENOTCONN: _DISK,
    errno.EFBIG: "The disk or a limit (`ulimit -f`) allows no file as large: choose another disk or raise it.",
    errno.ETXTBSY: "Another program runs or writes this file: end it, or name another file.",
}
_WITHOUT_NAME = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO)


def hint_for(error: OSError) -> str | None:
    """What to do about an error; None where it is not the user's.

    Most of them are only where they name a file: without one, a permission may be that of a process or a socket.
    """
    if error.errno is None or not (error.filename or error.errno in _WITHOUT_NAME):
        return None
    return HINTS.get(error.errno)
