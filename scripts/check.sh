#!/bin/sh
# Style, layers and types; runs all of them and fails if one fails.
set -u
cd "$(dirname "$0")/.." || exit 2
. scripts/common.sh

status=0
run() {
    say "$*"
    "$@" || status=1
}
run .venv/bin/ruff check .
run .venv/bin/ruff format --check .
run .venv/bin/lint-imports
run .venv/bin/mypy
exit $status
