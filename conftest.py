"""Settings of the whole test suite."""

import os

from videopolicy.console.threads import wait_briefly

wait_briefly()
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests share the cores by running side by side; models this small gain nothing from more threads each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
