#!/bin/sh
# Make .venv from requirements.lock and install our packages into it, editable. Does nothing when nothing changed.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

STAMP=.venv/.vpolicy-setup
[ -f requirements.lock ] || stop "requirements.lock is missing." "Restore it with git, or make it: make lock"

set --
for folder in $(first_party); do set -- "$@" "$folder/pyproject.toml"; done
wanted=$(fingerprint requirements.lock scripts/setup.sh "$@")
if [ -x .venv/bin/python ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$(printf '%s\n%s' "$wanted" "$PWD")" ]; then
    say "Python environment .venv is up to date"
    exit 0
fi
if [ -f "$STAMP" ] && ! grep -qxF "$PWD" "$STAMP"; then
    say "The checkout was moved or copied: throwing away its .venv, whose commands hold the old path"
    rm -rf .venv
fi

find_uv
use_pip_settings
if [ ! -x .venv/bin/python ] || ! python_is_new_enough .venv/bin/python; then
    find_python
    say "Making the Python environment .venv with $("$PYTHON" --version 2>&1)"
    "$UV" venv --quiet --clear --python "$PYTHON" .venv
fi

set --
for folder in $(first_party); do set -- "$@" --editable "./$folder"; done
say "Installing requirements.lock and our packages into .venv (about 5 GB the first time, mostly torch)"
quiet=
if [ ! -t 2 ]; then quiet=--quiet; fi # a progress bar is for people
"$UV" pip install $quiet --python .venv/bin/python --no-deps --requirement requirements.lock "$@" ||
    stop "The packages in requirements.lock could not be installed." \
        "Check the network and the free disk space ($(df -h . | awk 'NR == 2 {print $4}') free), then run make again."
"$UV" pip check --quiet --python .venv/bin/python ||
    stop "The packages in .venv do not fit together." "Make a new environment: rm -rf .venv && make setup"
say "Importing the large packages once, so that they are compiled when they are needed"
.venv/bin/python -c '
import diffusers, lightning.pytorch, matplotlib.figure, torchvision.transforms.v2, transformers
diffusers.UNetSpatioTemporalConditionModel, diffusers.AutoencoderKLTemporalDecoder
transformers.CLIPTextModelWithProjection, transformers.CLIPTokenizer
'
printf '%s\n%s\n' "$wanted" "$PWD" >"$STAMP"
say "Python environment .venv is ready"
