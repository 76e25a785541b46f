#!/bin/sh
# Resolve requirements.lock from every pyproject.toml: exact versions for all Pythons from 3.11 on, no addresses.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

find_uv
use_pip_settings
say "Resolving requirements.lock"
set --
for folder in $(first_party); do
    set -- "$@" --no-emit-package "$(sed -n 's/^name = "\(.*\)"$/\1/p' "$folder/pyproject.toml" | head -n 1)"
done
for folder in $(first_party); do
    if [ "$folder" = . ]; then echo "-e .[dev,docs]"; else echo "-e ./$folder"; fi
done | "$UV" pip compile - --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate \
    --custom-compile-command "make lock" "$@" ${UPGRADE:+--upgrade} --output-file requirements.lock
say "requirements.lock names $(grep -c == requirements.lock) packages"
