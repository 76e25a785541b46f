"""Files that are whole or not there."""

from videopolicy.storage.files import storage_errors, written_whole

__all__ = ["storage_errors", "written_whole"]
