#!/bin/sh
# Build the wheels of all our packages. wheels.sh [FOLDER]: where they go, dist by default.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

find_uv
use_pip_settings
# Named, since uv would look for a Python that every package supports, and LeRobot's adapters want 3.12.
"$UV" build --quiet --python .venv/bin/python --all-packages --wheel --clear --out-dir "${1:-dist}" ||
    stop "The wheels could not be built." "Check the network: building needs hatchling. Then run make again."
say "${1:-dist} holds $(find "${1:-dist}" -name '*.whl' | wc -l) wheels"
