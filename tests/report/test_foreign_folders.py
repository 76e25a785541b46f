"""Run folders from elsewhere: nothing outside them is shown or written, and what is wrong in them is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command import vpolicy
from toy_recipes import linear

from videopolicy.errors import StorageError
from videopolicy.report.contents import read_run
from videopolicy.report.made import keep_current
from videopolicy.report.media import data_uri
from videopolicy.report.page import write_report
from videopolicy.storage.files import ensure_no_link_out, write_text

SECRET = b"-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "outside" / "secret.mp4"
    file.parent.mkdir()
    file.write_bytes(SECRET)
    return file


def index_names(run: Path, name: str, **changes: object) -> None:
    index = json.loads((run / "videos" / "videos.json").read_text(encoding="utf-8"))
    facts = next(iter(index.values()))
    (run / "videos" / "videos.json").write_text(json.dumps({**index, name: {**facts, **changes}}), encoding="utf-8")


@pytest.mark.parametrize("kind", ["absolute", "above", "pipe", "folder"])
def test_a_film_outside_the_run_is_named_and_left_out(made_up_run, tabletop, secret: Path, kind: str):
    name = str(secret)
    if kind == "above":
        name = os.path.relpath(secret, made_up_run / "videos")
    elif kind == "pipe":
        name = "pipe.mp4"
        os.mkfifo(made_up_run / "videos" / name)
    elif kind == "folder":
        name = ".."
    index_names(made_up_run, name)
    page = write_report(made_up_run, tabletop).read_text(encoding="utf-8")
    assert data_uri(SECRET, "video/mp4") not in page and SECRET.decode() not in page
    assert "is left out, since it is no regular file in" in page
    assert page.count("data:video/mp4") >= 2


@pytest.mark.parametrize(
    ("changes", "where"), [({"control_rate": 0}, "control_rate"), ({"steps": "many"}, "steps"), ({"task": {}}, "task")]
)
def test_an_entry_with_other_values_is_named_and_left_out(made_up_run, tabletop, changes: dict, where: str):
    name = next((made_up_run / "videos").glob("*-success.mp4")).name
    index_names(made_up_run, name, **changes)
    assert f"is left out: {where}: " in write_report(made_up_run, tabletop).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "link", ["videos", "report.html", "videos/new.mp4", "recipe.yaml", ".report.html.part", "logs"]
)
def test_a_link_that_leads_out_of_a_run_is_named_before_anything_is_written(
    made_up_run, tabletop, secret: Path, link: str
):
    place = made_up_run / link
    target = secret.parent if link in ("videos", "logs") else secret
    if place.is_dir():
        place.rename(made_up_run / "moved")
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    with pytest.raises(StorageError, match="is a link to") as caught:
        write_report(made_up_run, tabletop)
    assert str(place) in caught.value.message and caught.value.hint
    assert secret.read_bytes() == SECRET and [file.name for file in secret.parent.iterdir()] == [secret.name]


@pytest.mark.parametrize("verb", [("run", "linear.yaml", "name=there"), ("quality", "runs/there")])
def test_no_verb_goes_on_in_a_folder_with_such_a_link(tmp_path: Path, secret: Path, verb: tuple[str, ...]):
    (tmp_path / "linear.yaml").write_text(linear("episodes: 1"), encoding="utf-8")
    run = tmp_path / "runs" / "there"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(linear("episodes: 1"), encoding="utf-8")
    (run / "episodes.jsonl").symlink_to(secret)
    said = vpolicy(tmp_path, *verb, VPOLICY_HOME=str(tmp_path / "home"))
    assert said.returncode == 2 and f"is a link to {secret}" in said.stderr, said.stderr
    assert secret.read_bytes() == SECRET and not (run / ".lock").exists()


def test_links_to_a_run_and_inside_it_are_the_users_own(made_up_run, tabletop, tmp_path: Path):
    (tmp_path / "linked").symlink_to(made_up_run.parent)
    (made_up_run / "videos").rename(made_up_run / "films")
    (made_up_run / "videos").symlink_to("films")
    run = tmp_path / "linked" / made_up_run.name
    assert "data:video/mp4" in write_report(run, tabletop).read_text(encoding="utf-8")


def test_a_folder_must_not_lead_out_of_its_root(tmp_path: Path, secret: Path):
    (tmp_path / "films").symlink_to(secret.parent)
    with pytest.raises(StorageError, match="outside"):
        ensure_no_link_out(tmp_path / "films", tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to("circle")
    ensure_no_link_out(tmp_path / "absent")


def test_a_file_takes_the_place_of_a_link_and_of_what_lies_in_its_way(tmp_path: Path, secret: Path):
    (tmp_path / "table.csv").symlink_to(secret)
    (tmp_path / ".table.csv.part").symlink_to(secret)
    write_text(tmp_path / "table.csv", "a,\udcff\n")
    assert secret.read_bytes() == SECRET
    assert not (tmp_path / "table.csv").is_symlink() and (tmp_path / "table.csv").read_bytes() == b"a,?\n"


def test_an_index_from_elsewhere_removes_no_file_elsewhere(tmp_path: Path, secret: Path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "old.mp4").write_bytes(b"old")
    names = ["old.mp4", "..", "", str(secret), f"../outside/{secret.name}"]
    (folder / "videos.json").write_text(json.dumps({name: {"key": "1"} for name in names}), encoding="utf-8")
    assert keep_current(folder / "videos.json", {}, lambda name: [name], print) == {}
    assert secret.read_bytes() == SECRET and not (folder / "old.mp4").exists()


def test_hostile_names_are_text_on_the_page_and_in_the_terminal(made_up_run, tabletop):
    hostile = "$\\frac$ [red]x[/] \x1b]0;t\x07 <img src=x onerror=alert(1)>"
    with (made_up_run / "train.csv").open("a", encoding="utf-8") as file:
        file.write(f"video,3,loss/{hostile},0.5,61\nvideo,{'9' * 400},loss/video,0.5,61\n")
    provenance = json.loads((made_up_run / "provenance.json").read_text(encoding="utf-8"))
    (made_up_run / "provenance.json").write_text(json.dumps(provenance | {"name": hostile}), encoding="utf-8")
    page = write_report(made_up_run, tabletop).read_text(encoding="utf-8")
    assert "<img src=x" not in page and "$\\frac$" in page
    said = vpolicy(made_up_run.parent, "show", made_up_run.name)
    assert said.returncode == 0 and "\x1b" not in said.stdout and "[red]x[/] \ufffd]0;t" in said.stdout


@pytest.mark.parametrize(
    "text", ["train: 5\n", "train: [5]\n", "eval: [1]\n", "eval: {episodes: many, baselines: 3}\n"]
)
def test_a_recipe_with_other_sections_is_shown_without_them(made_up_run, tabletop, text: str):
    (made_up_run / "recipe.yaml").write_text(text, encoding="utf-8")
    run = read_run(made_up_run, tabletop)
    assert any(f"`{text.partition(':')[0]}` is not what a recipe has there" in problem for problem in run.problems)
    write_report(made_up_run, tabletop)
