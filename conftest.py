"""Settings of the whole test suite."""

from videopolicy.threads import wait_briefly

wait_briefly()
