"""Settings of the whole test suite."""

import os
from pathlib import Path

import pytest

from videopolicy.console.threads import wait_briefly
from videopolicy.storage.store import Store

wait_briefly()
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests share the cores by running side by side; models this small gain nothing from more threads each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests, then those with simulators: near the end, no process is left alone with a long one."""
    marked = {mark: {item.path for item in items if item.get_closest_marker(mark)} for mark in ("slow", "simulator")}
    items.sort(key=lambda item: (item.path not in marked["slow"], item.path not in marked["simulator"]))


@pytest.fixture(scope="session")
def environments() -> Path:
    """Where this checkout keeps simulators' environments, whatever folder a test runs in."""
    return Store(None if os.environ.get("VPOLICY_HOME") else Path(__file__).parent / ".vpolicy").root
