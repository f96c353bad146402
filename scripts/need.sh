#!/usr/bin/env bash
# Install Debian's tools that some proofs need, where they are missing, we are root and apt works.
#
#   scripts/need.sh strace bindfs
#
# Says in one sentence what is missing in the end, and then ends with 1; the tests that need it skip.
set -euo pipefail

missing=()
for tool in "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "need: installing ${missing[*]}"
    # A package is called like its tool, but for this one.
    packages=("${missing[@]/#h2load/nghttp2-client}")
    install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; }
    # The lists of packages may be old or not there at all.
    install >/dev/null 2>&1 || { apt-get update -qq && install; } >/dev/null 2>&1 || true
fi
for tool in "${missing[@]}"; do
    command -v "$tool" >/dev/null || { echo "need: no ${missing[*]} here, and they cannot be installed: install them" >&2; exit 1; }
done
