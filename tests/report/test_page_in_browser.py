"""The page in a real browser: everything plays from one file, and nothing is asked of the network."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from videopolicy.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]


class Browser:
    """The few WebDriver calls that these tests need."""

    def __init__(self, address: str, profile: str) -> None:
        self.address = address
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        always = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._post("/session", {"capabilities": {"alwaysMatch": always}})
        self.address += f"/session/{session['sessionId']}"

    def _post(self, path: str, body: dict):
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._post("/url", {"url": url})

    def run(self, script: str):
        return self._post("/execute/sync", {"script": script, "args": []})

    def log(self, kind: str) -> list[dict]:
        return self._post("/se/log", {"type": kind})

    def quit(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self.address, method="DELETE"), timeout=60).close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/status", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        found = Browser(address, str(tmp_path_factory.mktemp("profile")))
        yield found
        found.quit()
    finally:
        driver.terminate()
        driver.wait()


def wait_for(browser: Browser, script: str) -> None:
    deadline = time.monotonic() + 30
    while not browser.run(script):
        assert time.monotonic() < deadline, script
        time.sleep(0.1)


def requests_beyond_the_file(browser: Browser, own: str) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [one["request"]["url"] for one in sent if one["documentURL"] == own]
    assert own in urls  # the log does hold what this page asked for
    return [url for url in urls if url != own and not url.startswith("data:")]


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
    wait_for(browser, f"return {videos}.every(v => v.readyState >= 3 && v.videoWidth > 100 && v.duration > 0.5)")
    browser.run("document.querySelector('#videos video').play()")
    wait_for(browser, "return document.querySelector('#videos video').currentTime > 0.1")
    assert browser.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.run("return document.querySelectorAll('#training svg path').length") > 10
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert requests_beyond_the_file(browser, page.as_uri()) == []
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
    browser._post("/window/rect", {"width": width, "height": 900})
    browser.open(write_report(made_up_run, tabletop).as_uri())
    text = browser.run("return document.body.innerText")
    assert "This run is not finished" in text
    assert "policy 'trained' has run 30 of 80 episodes" in text
    assert "No video has been made yet" in text
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.log("browser") == []
