#!/bin/sh
# Tests and figures on one CUDA machine, which may be without a network.
#
#   sh scripts/gpu.sh --wheels DIR
#       Where there is a network: fill DIR with what that machine lacks, as wheels, and with our own packages.
#   sh scripts/gpu.sh --out DIR [--wheels DIR] [--deadline SECONDS] [--only WORDS] [--tiny]
#       There: install DIR's wheels into a temporary folder beside what its python3 has (PyTorch and what commonly comes
#       with it), run the tests marked `cuda`, then measure policies of published size with random weights. Everything
#       is in DIR: tests.txt, figures.json, table.txt. --only measures the sections whose names hold one of some words.
#       Without CUDA, or with --tiny, toy sizes: plumbing only.
set -u
cd "$(dirname "$0")/.." || exit 2
. scripts/common.sh

started=$(date +%s)
out= wheels= deadline=470 only= tiny=
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2 && shift ;;
        --wheels) wheels=$2 && shift ;;
        --deadline) deadline=$2 && shift ;;
        --only) only=$2 && shift ;;
        --tiny) tiny=--tiny ;;
        *) stop "gpu.sh knows no '$1'." "See the head of scripts/gpu.sh." ;;
    esac
    shift
done
[ -n "$out$wheels" ] || stop "Nothing to do." "See the head of scripts/gpu.sh."

# What PyTorch images usually lack, at the versions of requirements.lock. PyAV, zarr and uv are not needed for this.
CARRIED="diffusers importlib-metadata lazy-importer pydantic pydantic-core annotated-types typing-extensions
typing-inspection requests charset-normalizer idna urllib3 certifi"
TAGS="manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64"

if [ -z "$out" ]; then
    find_python
    find_uv
    mkdir -p "$wheels" && rm -f "$wheels"/*.whl
    set --
    for tag in $TAGS; do set -- "$@" --platform "$tag"; done
    pinned=
    for name in $CARRIED; do
        release=$(sed -n "s/^\\($name==[^ ;]*\\).*/\\1/p" requirements.lock | tail -n 1)
        pinned="$pinned ${release:-$name}"
    done
    say "Fetching$pinned"
    # shellcheck disable=SC2086
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version "${TARGET_PYTHON:-3.12}" \
        --implementation cp "$@" --dest "$wheels" $pinned || stop "The packages could not be fetched."
    use_pip_settings
    for folder in $(first_party); do
        "$UV" build --quiet --wheel --out-dir "$wheels" "$folder" || stop "$folder could not be built."
    done
    rm -f "$wheels/.gitignore"
    say "$(du -sh "$wheels" | cut -f 1) of wheels in $wheels"
    exit 0
fi

PYTHON=${PYTHON:-python3}
mkdir -p "$out"
if [ -n "$wheels" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    say "Installing $(ls "$wheels"/*.whl | wc -l) wheels"
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
        --upgrade --target "$site" "$wheels"/*.whl || stop "The wheels could not be installed."
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
fi
VPOLICY_HOME=${VPOLICY_HOME:-$(mktemp -d)}
HF_HUB_OFFLINE=1
unset PYTHONDONTWRITEBYTECODE # two processes import the same
PYTHONUNBUFFERED=1
export VPOLICY_HOME HF_HUB_OFFLINE PYTHONUNBUFFERED

nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.sm --format=csv,noheader 2>/dev/null
status=0
say "Tests marked cuda"
timeout 140 "$PYTHON" -m pytest -q -m cuda -p no:cacheprovider --durations=8 tests/cuda >"$out/tests.txt" 2>&1 || status=1
tail -n 25 "$out/tests.txt"

left=$((deadline - $(date +%s) + started))
say "Figures, with $left s left"
# The last section may be in the middle of something that does not listen.
# shellcheck disable=SC2086
timeout --kill-after=5 $((left + 20)) "$PYTHON" scripts/gpu_figures.py --out "$out" --deadline "$left" \
    --only "$only" $tiny || status=1
say "Done after $(($(date +%s) - started)) s, tests and figures $([ $status = 0 ] && echo in order || echo with failures)"
exit $status
