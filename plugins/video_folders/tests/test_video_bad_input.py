"""What is wrong with a folder of videos is said in one sentence, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from video_samples import annotate, captioned_folder, vpp_folder
from vpolicy_video_folders.components import CaptionedVideos, VppVideos

from videopolicy import DataError


def _says(path: Path, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        VppVideos(path=path, image_size=(16, 16), **options).build(None)
    assert caught.value.hint
    return caught.value


def test_an_annotation_whose_video_is_missing(tmp_path: Path) -> None:
    path = vpp_folder(tmp_path)
    (path / "videos/train/1/0.mp4").unlink()
    error = _says(path)
    assert error.message == (
        f"{path}/annotation/train/1.json names the video {path}/videos/train/1/0.mp4, which is not there."
    )


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0" * 4096])
def test_a_damaged_video(tmp_path: Path, content: bytes) -> None:
    path = vpp_folder(tmp_path)
    video = path / "videos/train/1/0.mp4"
    video.write_bytes(content)
    error = _says(path)
    assert error.message.startswith(f"The video {video} is damaged or no video: ") and "download" in error.hint


def test_a_video_that_is_cut_short(tmp_path: Path) -> None:
    path = vpp_folder(tmp_path, lengths=(9, 60))
    video = path / "videos/train/1/0.mp4"
    video.write_bytes(video.read_bytes()[:-400])
    assert f"The video {video} is " in _says(path).message


@pytest.mark.parametrize("texts", [[], [""], ["  "], [None]])
def test_an_annotation_without_text(tmp_path: Path, texts: list) -> None:
    path = vpp_folder(tmp_path)
    file = annotate(path, "train", "1", texts, ["videos/train/1/0.mp4"])
    assert _says(path).message == f"{file} has no text, so nothing says what its video shows."


def test_a_folder_without_annotations(tmp_path: Path) -> None:
    assert _says(tmp_path).message == (
        f"There are no annotations in {tmp_path}/annotation/train, so there is no video to be read."
    )
    assert "does not exist" in _says(tmp_path / "nowhere").message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is damaged or no JSON"),
        ("[]", "names no `videos`"),
        ('{"texts": ["a"], "videos": []}', "names no `videos`"),
        ('{"texts": ["a"], "videos": [{"path": "a.mp4"}]}', "names no `video_path` for its video of number 0"),
    ],
)
def test_an_annotation_of_another_form(tmp_path: Path, content: str, says: str) -> None:
    path = vpp_folder(tmp_path)
    file = path / "annotation/train/1.json"
    file.write_text(content)
    message = _says(path).message
    assert str(file) in message and says in message


def test_a_camera_that_annotations_do_not_have(tmp_path: Path) -> None:
    message = _says(vpp_folder(tmp_path), cameras={"static": 0, "gripper": 1}).message
    assert "annotation/train/0.json names 1 videos, so there is none of number 1 for camera 'gripper'" in message


def test_data_without_validation_say_so(tmp_path: Path) -> None:
    path = vpp_folder(tmp_path, held_out=0)
    dataset = VppVideos(path=path, image_size=(16, 16)).build(None)
    assert dataset.splits == {"train": 2}
    assert dataset.remarks == (f"there are no annotations in {path}/annotation/val: there is no split `validation`",)
    assert VppVideos(path=path, validation=None, image_size=(16, 16)).build(None).remarks == ()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "is no list of videos"),
        ([{"label": "moving"}], "entry 0: {'label': 'moving'} has no `id`"),
        ([{"id": "100", "label": ""}], "train.json, id 100 has no text"),
        ([{"id": "7", "label": "moving"}], "names the video "),
    ],
)
def test_captions_of_another_form(tmp_path: Path, entries: list, says: str) -> None:
    path = captioned_folder(tmp_path)
    (path / "labels/train.json").write_text(json.dumps(entries))
    with pytest.raises(DataError) as caught:
        CaptionedVideos(path=path).build(None)
    assert says in caught.value.message and caught.value.hint


def test_a_folder_without_captions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no list of captions .*labels/train\.json"):
        CaptionedVideos(path=tmp_path).build(None)
