"""Settings of the whole test suite."""

import os

import pytest

from videopolicy.console.threads import wait_briefly

wait_briefly()
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests share the cores by running side by side; models this small gain nothing from more threads each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test begin first: near the end, no process is left alone with a long one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
