#!/bin/sh
# A headless browser for the tests of pages, where Debian has one and this user may install it; else these tests skip.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -n "$browser" ] && command -v chromedriver >/dev/null 2>&1; then
    say "Pages are tested in $browser"
elif is_debian && [ "$(id -u)" -eq 0 ] && apt-get update -qq && apt-cache show chromium-driver >/dev/null 2>&1; then
    need_packages "No browser to test pages in." chromium chromium-driver
else
    say "No chromium and chromedriver: tests of pages will skip"
fi
