"""Writes shards, one for every block."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videopolicy import DataError, EncodedRun
from videopolicy.parts.files import storage_errors, written_whole
from vpolicy_encoded_clips.layout import CLIPS, INDEX, packed

_MOST = 2**31
"""Bytes of a shard, whose offsets litdata keeps in 32 bits."""


class ShardWriter:
    """Of one camera of one split.

    Args:
        folder: Gets the shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def present(self, block: int) -> bool:
        """Whether a block is safely on disk."""
        return self._facts_file(block).is_file()

    def add(self, block: int, runs: Sequence[EncodedRun]) -> None:
        """Write a block, which is there whole or not at all."""
        from vpolicy_encoded_clips.library import litdata_writer

        with storage_errors(self._folder), tempfile.TemporaryDirectory(dir=self._folder, prefix=".part-") as place:
            writer = litdata_writer(Path(place), _MOST, block)
            for number, run in enumerate(runs):
                writer.add_item(number, packed(run))
            writer.done()
            made = sorted(Path(place).glob("*.bin"))
            (listed,) = Path(place).glob(f"*{INDEX}")
            index = json.loads(listed.read_text(encoding="utf-8"))
            (chunk,) = index["chunks"]
            chunk["filename"] = f"chunk-0-{block}.bin"
            with written_whole(self._folder / chunk["filename"]) as part:
                shutil.copyfile(made[0], part)
        facts = {"chunk": chunk, "config": index["config"], "runs": [len(run.frames) for run in runs]}
        with written_whole(self._facts_file(block)) as part:
            part.write_text(json.dumps(facts), encoding="utf-8")

    def finish(self, blocks: int, facts: Mapping[str, Any]) -> None:
        """Put all blocks together, in their order.

        Raises:
            DataError: What is there was encoded from other data, or otherwise.
        """
        found = [json.loads(self._facts_file(block).read_text(encoding="utf-8")) for block in range(blocks)]
        runs = [count for one in found for count in one["runs"]]
        whole = json.dumps({**facts, "runs": runs})
        clips = self._folder / CLIPS
        if clips.is_file() and clips.read_text(encoding="utf-8") != whole:
            raise DataError(
                f"{self._folder} holds latents of other data, or encoded otherwise.", "Choose another folder with -o."
            )
        index = {"chunks": [one["chunk"] for one in found], "config": found[0]["config"]}
        for name, text in ((INDEX, json.dumps(index)), (CLIPS, whole)):
            with written_whole(self._folder / name) as part:
                part.write_text(text, encoding="utf-8")

    def _facts_file(self, block: int) -> Path:
        return self._folder / f"block-{block:06d}.json"
