"""Files that are whole or not there, and inputs that can be read to an end."""

import stat
from pathlib import Path

from videopolicy.errors import DataError
from videopolicy.storage.files import storage_errors, written_whole

__all__ = ["ensure_regular", "storage_errors", "written_whole"]

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def ensure_regular(path: Path) -> None:
    """Check that an input is a file or a folder: opening a named pipe would wait for ever.

    Raises:
        DataError: It is something else, or a link to something that is not there.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            raise DataError(f"{path} does not exist.", "Correct `path` in the recipe's data section.") from None
        raise DataError(
            f"{path} is a link to {path.readlink()}, which does not exist.", "Restore what it links to, or remove it."
        ) from None
    except PermissionError:
        raise DataError(
            f"{path} may not be read: the permissions of its folder do not allow it.", "Change them with `chmod`."
        ) from None
    except OSError as error:  # such as links in a circle
        raise DataError(f"{path} cannot be opened: {error.strerror}.", "Name a file or a folder of data.") from None
    kind = stat.S_IFMT(mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{path} is {_KINDS.get(kind, 'no regular file')}, not a file.", "Name a file that holds data.")
