"""A real headless browser for the tests of pages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

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
    """What these tests ask of a browser."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.open, self.run, self.log = driver.get, driver.execute_script, driver.get_log

    def resize(self, width: int, height: int = 900) -> None:
        self.driver.set_window_rect(width=width, height=height)

    def offline(self, off: bool) -> None:
        """Take the network away, or give it back."""
        conditions = {"offline": off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    def wait_for(self, script: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 30, 0.1).until(lambda _: self.run(script), script)

    def requests_beyond(self, own: str) -> list[str]:
        """Addresses other than the page's own that it asked for since the log was last read."""
        messages: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        urls = [one["request"]["url"] for one in sent if one["documentURL"] == own]
        assert own in urls  # the log does hold what this page asked for
        return [url for url in urls if url != own and not url.startswith("data:")]


@pytest.fixture(scope="session")
def browser_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not (BROWSER and DRIVER):
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With both paths given, Selenium looks for neither and downloads neither.
    with Chrome(options, ChromeService(DRIVER)) as driver:
        yield Browser(driver)


@pytest.fixture
def browser(browser_process: Browser) -> Browser:
    """A browser of laptop size whose log holds nothing of earlier pages."""
    browser_process.resize(1280)
    browser_process.open("about:blank")
    browser_process.log("browser")
    browser_process.log("performance")
    return browser_process
