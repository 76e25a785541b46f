"""Files that are whole or not there, and paths as people write them."""

from videopolicy.paths import ensure_regular, expanded
from videopolicy.storage.files import storage_errors, written_whole

__all__ = ["ensure_regular", "expanded", "storage_errors", "written_whole"]
