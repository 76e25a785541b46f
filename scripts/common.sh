# shellcheck shell=sh
# Sourced by the other scripts, which run in the repository root.

UV_MINIMUM="0.8"

say() { printf '==> %s\n' "$*"; }

stop() {
    printf '\nStopped: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 2
}

is_debian() { command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1; }

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages REASON PACKAGE...: install Debian packages as root, or print the exact command and stop.
need_packages() {
    reason=$1
    shift
    if ! is_debian; then
        stop "$reason" "This is not Debian or Ubuntu: install what these packages hold, then run make again:" "$*"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        stop "$reason" "Run this, then make again:" \
            "sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    fi
    say "$reason Installing with apt: $*"
    apt-get update -qq || say "apt-get update failed; trying with the package lists that are here"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        stop "apt-get could not install: $*" "Install these packages, then run make again."
}

python_is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# find_python: set PYTHON to an interpreter of at least 3.11.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        python_is_new_enough "$PYTHON" || stop "PYTHON=$PYTHON is not a Python of at least 3.11."
        return
    fi
    for PYTHON in python3 python3.14 python3.13 python3.12 python3.11; do
        if python_is_new_enough "$PYTHON"; then return; fi
    done
    stop "Python 3.11 or newer is needed and not on PATH." \
        "Install it, or name one: make PYTHON=/path/to/python3.12 ..."
}

uv_is_new_enough() {
    version=$("$1" --version 2>/dev/null | cut -d ' ' -f 2)
    [ -n "$version" ] && [ "$(printf '%s\n%s\n' "$UV_MINIMUM" "$version" | sort -V | head -n 1)" = "$UV_MINIMUM" ]
}

# find_uv: set UV to the uv on PATH, or to one in .tools, which is made where it is missing.
find_uv() {
    UV=$(command -v uv 2>/dev/null || true)
    if [ -n "$UV" ] && uv_is_new_enough "$UV"; then return; fi
    UV=.tools/bin/uv
    if uv_is_new_enough "$UV"; then return; fi
    find_python
    if ! "$PYTHON" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        need_packages "$PYTHON cannot make virtual environments." \
            "$("$PYTHON" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    say "Installing uv into .tools"
    "$PYTHON" -m venv --clear .tools
    release=$(sed -n 's/^\(uv==[^ ;]*\).*/\1/p' requirements.lock 2>/dev/null | head -n 1)
    .tools/bin/python -m pip install --quiet --disable-pip-version-check "${release:-uv>=$UV_MINIMUM}" ||
        stop "pip could not install uv." "Check the network, or install uv yourself so that it is on PATH."
}

# uv reads its own settings, not pip's: hand over a mirror or certificate that only pip was told of.
pip_setting() { "$1" -m pip config list 2>/dev/null | sed -n "s/^global\\.$2='\\(.*\\)'\$/\\1/p"; }

use_pip_settings() {
    asker=python3
    if [ -x .tools/bin/python ]; then asker=.tools/bin/python; fi
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
        index=${PIP_INDEX_URL:-$(pip_setting "$asker" index-url)}
        if [ -n "$index" ]; then
            UV_DEFAULT_INDEX=$index
            export UV_DEFAULT_INDEX
        fi
    fi
    if [ -z "${SSL_CERT_FILE:-}" ]; then
        certificate=${PIP_CERT:-$(pip_setting "$asker" cert)}
        if [ -n "$certificate" ]; then
            SSL_CERT_FILE=$certificate
            export SSL_CERT_FILE
        fi
    fi
}

# first_party: the folders of our own packages, the core first.
first_party() {
    echo .
    for project in benchmarks/*/pyproject.toml plugins/*/pyproject.toml; do dirname "$project"; done
}

# fingerprint FILE... : a hash of the files' contents and of the words in $SALT.
fingerprint() { { echo "${SALT:-}"; cat "$@"; } | sha256sum | cut -d ' ' -f 1; }
