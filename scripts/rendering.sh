#!/bin/sh
# Make the simulators' environments and render one picture in each: EGL first, then OSMesa.
# What the machine lacks is installed with apt as root; else the command is printed and the run stops here.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

EGL_PACKAGES="libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"
OSMESA_PACKAGES="libosmesa6"
STAMP=.venv/.vpolicy-rendering
OUTPUT=.venv/.vpolicy-rendering.log

missing() { for package in "$@"; do is_installed "$package" || echo "$package"; done; }

renders() { .venv/bin/vpolicy env check "$1" >"$OUTPUT" 2>&1; }

for simulator in $SIMULATORS; do
    .venv/bin/vpolicy env create "$simulator"
done

SALT="$SIMULATORS ${VPOLICY_HOME:-} ${MUJOCO_GL:-} $(env | grep '^VPOLICY_.*_PYTHON=' || true)"
# shellcheck disable=SC2046  # a list of words
wanted=$(fingerprint .venv/.vpolicy-setup scripts/rendering.sh $(find benchmarks -name requirements.txt))
if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ]; then
    say "Headless rendering was checked before"
    exit 0
fi

for simulator in $SIMULATORS; do
    say "Rendering a picture in $simulator"
    for packages in "$EGL_PACKAGES" "$OSMESA_PACKAGES" none; do
        if renders "$simulator"; then break; fi
        if is_debian && [ "$packages" != none ]; then
            # shellcheck disable=SC2086  # a list of words
            packages=$(missing $packages)
            if [ -z "$packages" ]; then continue; fi
        fi
        if [ "$packages" = none ]; then
            cat "$OUTPUT" >&2
            stop "$simulator cannot render, although the libraries for it are installed." "What it said is above."
        fi
        if [ "$(id -u)" -ne 0 ]; then cat "$OUTPUT" >&2; fi
        # shellcheck disable=SC2086
        need_packages "$simulator cannot render without a display yet: libraries are missing." $packages
    done
    cat "$OUTPUT"
done
echo "$wanted" >"$STAMP"
