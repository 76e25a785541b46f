"""What a dataset says of itself in JSON: its version, features and splits, without opening anything large."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videopolicy import DataError, Spaces, StateSpace, did_you_mean, listing
from videopolicy.parts.files import ensure_data, system_reason

INFO = "meta/info.json"
MARK = "meta/videopolicy.json"
"""Written by our own writer only: `videopolicy.Spaces` and where the data come from."""
STATE = "observation.state"
IMAGES = "observation.images."
VERSIONS = {"v2.0": 2, "v2.1": 2, "v3.0": 3}
"""Versions of the format to layouts of the files: 2.0 and 2.1 differ in their statistics, which are not read."""
AGAIN = "Copy or download this part of the dataset again."
_PATHS = {
    2: (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
    3: (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
}


@dataclass(frozen=True)
class Feature:
    """What is recorded at every step under one name.

    Args:
        dtype: ``video``, ``image`` or a type of numbers.
        shape: Of one step.
        names: Of the numbers of a vector; empty where nobody says.
        size: Height and width of a picture; None for numbers.
        depth: Whether a picture is a depth map.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    size: tuple[int, int] | None
    depth: bool


@dataclass(frozen=True)
class Info:
    """What ``meta/info.json`` says.

    Args:
        root: Folder of the dataset.
        layout: 2 or 3.
        fps: Steps a second.
        features: By name.
        data_path, video_path: Templates of the files' names.
        chunk: Episodes a folder, in layout 2.
        episodes: How many there are.
        splits: Name to a range of episodes, such as ``0:50``.
    """

    root: Path
    layout: int
    fps: float
    features: dict[str, Feature]
    data_path: str
    video_path: str
    chunk: int
    episodes: int
    splits: dict[str, str]

    def file(self, template: str, **values: object) -> Path:
        """A file of the dataset by the template of its name.

        Raises:
            DataError: The template asks for something else, or leads out of the dataset.
        """
        try:
            path = self.root / template.format(**values)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise DataError(f"{self.root / INFO}: '{template}' is no name of files: {error!r}.", AGAIN) from error
        if ".." in path.parts or not path.is_relative_to(self.root):
            raise DataError(f"{self.root / INFO}: '{template}' leads out of the dataset.", AGAIN)
        return path


@dataclass(frozen=True)
class Mark:
    """What our own writer has recorded.

    Args:
        spaces: Cameras, state and actions.
        experts: How many episodes are by which kind of expert; none of them is a human.
        initial_states: Hashes of the states in which the episodes begin, where they are known.
        remarks: What was said of the data that were exported.
    """

    spaces: Spaces
    experts: dict[str, int]
    initial_states: frozenset[str]
    remarks: tuple[str, ...]

    @property
    def orientation(self) -> Literal["upright", "mirrored"]:
        return self.spaces.cameras[0].orientation if self.spaces.cameras else "upright"


@dataclass(frozen=True)
class StateColumns:
    """Where the proprioception is recorded: the name of every dimension to feature and column."""

    columns: dict[str, tuple[str, int]]

    @property
    def space(self) -> StateSpace:
        return StateSpace(names=tuple(self.columns))

    def __bool__(self) -> bool:
        return bool(self.columns)


def read_json(path: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        DataError: It is missing, cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        reason, hint = system_reason(error.errno) or (str(error.strerror), "Make it readable.")
        raise DataError(f"{path} cannot be read: {reason}.", hint) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged or no JSON: {error}.", AGAIN) from error


def read_lines(path: Path) -> list[Any]:
    """The objects of a file that holds one a line.

    Raises:
        DataError: As `read_json`, naming the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        reason, hint = system_reason(error.errno) or (str(error.strerror), "Make it readable.")
        raise DataError(f"{path} cannot be read: {reason}.", hint) from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}, is damaged or no JSON: {error}.", AGAIN) from error
    return found


def read_info(root: Path) -> Info:
    """What a dataset is.

    Raises:
        DataError: It is none, of a version that is not read, or damaged.
    """
    ensure_data(root)
    path = root / INFO
    if not path.is_file():
        raise DataError(
            f"{root} is no LeRobot dataset: it has no {INFO}.",
            "Name the folder that holds `meta`, `data` and `videos`; on the Hub it is the repository.",
        )
    content = read_json(path)
    version = content.get("codebase_version") if isinstance(content, dict) else None
    layout = VERSIONS.get(version) if isinstance(version, str) else None
    if layout is None:
        raise DataError(
            f"{path} says that this is version {version!r} of LeRobot's format; {listing(VERSIONS)} can be read.",
            "Convert the data with LeRobot's own scripts (`lerobot.scripts.convert_dataset_v21_to_v30` writes v3.0), "
            "or, where it is newer, install a newer vpolicy-lerobot.",
        )
    try:
        features = {str(key): _feature(one) for key, one in content["features"].items()}
        fps, chunk = float(content["fps"]), int(content.get("chunks_size") or 1000)
        data, video = (content.get(name) or usual for name, usual in zip(_NAMES, _PATHS[layout], strict=True))
        splits = {str(name): str(span) for name, span in (content.get("splits") or {}).items()}
        episodes = int(content["total_episodes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged or incomplete: {error!r}.", AGAIN) from error
    if not fps > 0 or chunk < 1 or episodes < 1:
        raise DataError(f"{path} says that there are {episodes} episodes at {fps:g} frames a second.", AGAIN)
    return Info(root, layout, fps, features, str(data), str(video), chunk, episodes, splits)


_NAMES = ("data_path", "video_path")


def _feature(said: Mapping[str, Any]) -> Feature:
    dtype, shape = str(said["dtype"]), tuple(int(one) for one in said["shape"])
    names = tuple(_flat(said.get("names")))
    about = {**(said.get("info") or {}), **(said.get("video_info") or {})}
    depth = any(bool(about.get(key)) for key in ("is_depth_map", "video.is_depth_map"))
    size = _size(shape, names) if dtype in ("video", "image") else None
    return Feature(dtype, shape, names if names and len(names) == sum(shape) and len(shape) == 1 else (), size, depth)


def _flat(names: Any) -> Iterator[str]:
    """Names as a list, or as lists under headings."""
    for one in names.values() if isinstance(names, dict) else names or ():
        if isinstance(one, str):
            yield one
        elif isinstance(one, Sequence):
            yield from map(str, one)


def _size(shape: tuple[int, ...], names: Sequence[str]) -> tuple[int, int]:
    """Height and width; colours come last, or first in older datasets."""
    if len(shape) != 3:
        raise ValueError(f"a picture of shape {shape}")
    if "height" in names and "width" in names and len(names) == 3:
        return shape[names.index("height")], shape[names.index("width")]
    return (shape[1], shape[2]) if shape[0] in (1, 3) and shape[2] not in (1, 3) else (shape[0], shape[1])


def read_mark(root: Path) -> Mark | None:
    """What our own writer has recorded; None of data from elsewhere.

    Raises:
        DataError: It is damaged.
    """
    path = root / MARK
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return Mark(
            Spaces.model_validate(content["spaces"]),
            {str(kind): int(count) for kind, count in content["experts"].items()},
            frozenset(str(one) for one in content["initial_states"] if one),
            tuple(str(content["provenance"].get("remarks", "")).splitlines()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error!r}.", "Restore the file, or export the data again.") from error


def camera_features(info: Info, chosen: Mapping[str, str]) -> dict[str, str]:
    """Cameras by name to their features.

    Raises:
        DataError: A chosen one is no camera, or there is none.
    """
    known = [key for key, one in info.features.items() if one.size is not None and not one.depth]
    for name, key in chosen.items():
        if key not in known:
            raise DataError(
                f"{info.root} has no camera '{key}' for '{name}'.{did_you_mean(key, known)} There is: "
                f"{listing(known)}.",
                "Correct `cameras` in the recipe's data section.",
            )
    if not known:
        raise DataError(f"{info.root} has no camera.", "Use a dataset with videos or images.")
    return dict(chosen) or {key.removeprefix(IMAGES).removeprefix("observation."): key for key in known}


def state_columns(info: Info, chosen: Mapping[str, tuple[str, int]]) -> StateColumns:
    """Where the proprioception is recorded.

    Raises:
        DataError: A chosen column is not there.
    """
    for name, (key, column) in chosen.items():
        width = vector(info, key, "state")
        if column >= width:
            raise DataError(
                f"{info.root}: '{key}' has {width} dimensions, so there is no column {column} for '{name}' (they are "
                "counted from 0).",
                "Correct `state` in the recipe's data section.",
            )
    if chosen or STATE not in info.features:
        return StateColumns(dict(chosen))
    width, names = vector(info, STATE, "state"), info.features[STATE].names
    return StateColumns(
        {name: (STATE, column) for column, name in enumerate(names or [f"state_{one}" for one in range(width)])}
    )


def vector(info: Info, key: str, option: str) -> int:
    """How many numbers a feature has.

    Raises:
        DataError: There is no such feature, or it is no vector.
    """
    known = {name: one for name, one in info.features.items() if one.size is None}
    if key not in known:
        raise DataError(
            f"{info.root} has no numbers '{key}'.{did_you_mean(key, known)} There is: {listing(known)}.",
            f"Correct `{option}` in the recipe's data section.",
        )
    shape = known[key].shape
    if len(shape) > 1:
        raise DataError(f"{info.root}: '{key}' has shape {shape}, and is no vector.", "Choose another feature.")
    return shape[0] if shape else 1
