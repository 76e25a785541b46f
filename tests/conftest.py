"""A real headless browser for the tests of pages."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
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

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._post("/url", {"url": url})

    def resize(self, width: int, height: int = 900) -> None:
        self._post("/window/rect", {"width": width, "height": height})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def offline(self, off: bool) -> None:
        """Take the network away, or give it back."""
        conditions = {"offline": off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.devtools("Network.emulateNetworkConditions", **conditions)

    def run(self, script: str) -> Any:
        return self._post("/execute/sync", {"script": script, "args": []})

    def wait_for(self, script: str) -> None:
        deadline = time.monotonic() + 30
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.1)

    def log(self, kind: str) -> list[dict[str, Any]]:
        return self._post("/se/log", {"type": kind})

    def requests_beyond(self, own: str) -> list[str]:
        """Addresses other than the page's own that it asked for since the log was last read."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        urls = [one["request"]["url"] for one in sent if one["documentURL"] == own]
        assert own in urls  # the log does hold what this page asked for
        return [url for url in urls if url != own and not url.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """The whole page as a picture, for people."""
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def quit(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self.address, method="DELETE"), timeout=60).close()


@pytest.fixture(scope="session")
def browser_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not (BROWSER and DRIVER):
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
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


@pytest.fixture
def browser(browser_process: Browser) -> Browser:
    """A browser of laptop size whose log holds nothing of earlier pages."""
    browser_process.resize(1280)
    browser_process.open("about:blank")
    browser_process.log("browser")
    browser_process.log("performance")
    return browser_process
