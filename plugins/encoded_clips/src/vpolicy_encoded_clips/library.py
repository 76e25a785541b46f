"""litdata, imported when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from videopolicy import PluginError


def _missing(error: ModuleNotFoundError) -> PluginError:
    return PluginError(
        f"Latents are kept in litdata's shards, and litdata is not installed ({error.name} is missing).",
        "Install it: uv pip install 'vpolicy-encoded-clips[litdata]'.",
    )


def litdata_writer(folder: Path, most_bytes: int, shard: int) -> Any:
    """litdata's writer of one shard into a folder.

    Raises:
        PluginError: litdata is not installed.
    """
    try:
        from litdata.streaming.writer import BinaryWriter
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return BinaryWriter(str(folder), chunk_bytes=most_bytes, chunk_index=shard)


def litdata_items(folder: Path) -> Any:
    """The items of a folder of shards, by number.

    Raises:
        PluginError: litdata is not installed.
    """
    try:
        from litdata import StreamingDataset
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return StreamingDataset(str(folder), shuffle=False)
