"""The page in a real browser: everything plays from one file, and nothing is asked of the network."""

from __future__ import annotations

import shutil

import pytest

from videopolicy.report.page import write_report


def test_the_whole_page_shows_plays_and_asks_for_nothing(browser, made_up_run, tabletop, tmp_path):
    # Alone in another folder, so that nothing beside it can be used.
    page = tmp_path / "elsewhere" / "page.html"
    page.parent.mkdir()
    shutil.move(write_report(made_up_run, tabletop), page)
    browser.open(page.as_uri())
    assert browser.run("return document.title") == "made-up: report"
    sections = browser.run("return [...document.querySelectorAll('header[id], section[id]')].map(e => e.id)")
    assert sections == [
        "headline",
        "tasks",
        "videos",
        "prediction",
        "training",
        "published",
        "run",
        "recipe",
        "errors",
    ]
    videos = "[...document.querySelectorAll('video')]"
    assert browser.run(f"return {videos}.length") == 7 + 4
    browser.wait_for(f"return {videos}.every(v => v.readyState >= 3 && v.videoWidth > 100 && v.duration > 0.5)")
    browser.run("document.querySelector('#videos video').play()")
    browser.wait_for("return document.querySelector('#videos video').currentTime > 0.1")
    assert browser.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.run("return document.querySelectorAll('#training svg path').length") > 10
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.requests_beyond(page.as_uri()) == []
    assert browser.log("browser") == []


def test_a_point_lies_where_its_rate_says(browser, made_up_run, tabletop):
    browser.open(write_report(made_up_run, tabletop).as_uri())
    place = browser.run(
        """const row = [...document.querySelectorAll('.results tr.task')][1];
        const axis = row.querySelector('.axis').getBoundingClientRect();
        const dot = row.querySelector('.trained .dot').getBoundingClientRect();
        return (dot.left + dot.width / 2 - axis.left) / axis.width"""
    )
    assert place == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("width", [1280, 700])
def test_an_unfinished_run_says_so_and_breaks_nothing(browser, made_up_run, tabletop, width):
    for name in ("provenance.json", "train.csv", "videos/videos.json", "videos/predictions.json"):
        (made_up_run / name).unlink()
    lines = (made_up_run / "episodes.jsonl").read_text().splitlines()
    (made_up_run / "episodes.jsonl").write_text("\n".join(lines[:30]) + "\n")
    browser.resize(width)
    browser.open(write_report(made_up_run, tabletop).as_uri())
    text = browser.run("return document.body.innerText")
    assert "This run is not finished" in text
    assert "policy 'trained' has run 30 of 80 episodes" in text
    assert "No video has been made yet" in text
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.log("browser") == []
