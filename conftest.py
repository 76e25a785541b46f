"""Settings of the whole test suite."""

import os

# As the command line does it: see videopolicy/cli/main.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
