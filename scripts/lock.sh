#!/usr/bin/env bash
# Resolve every requirements/*.txt anew: pinned and hashed, for every platform, with no index address in any of them
# (which is why this is not a uv.lock: that one names a host on nearly every line).
#
# Pins that still satisfy their .in file stay as they are; `scripts/lock.sh --upgrade` moves them all.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=${UV:-.venv/bin/uv}

resolve() { # resolve OUTPUT ARGUMENT...
    local output=requirements/$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --no-emit-package model-sidecar-client --output-file "$output" "${extra[@]}" "$@" >/dev/null
    if grep -nE '://|^-' "$output"; then
        echo "lock: $output names an address or an option; it must hold pins and hashes only" >&2
        exit 1
    fi
    echo "$output: $(grep -c '==' "$output") packages"
}

extra=("$@")
resolve client.txt client/pyproject.toml
resolve sidecar.txt sidecar/pyproject.toml
resolve dev.txt client/pyproject.toml sidecar/pyproject.toml requirements/dev.in --all-extras
resolve tritonclient.txt client/pyproject.toml requirements/tritonclient.in
resolve fuzz.txt client/pyproject.toml sidecar/pyproject.toml requirements/fuzz.in
resolve build.txt requirements/build.in
resolve models.txt requirements/models.in --no-deps
for peer in mlserver kserve triton; do  # each in an environment of its own, for `make benchmarks`
    resolve "../benchmarks/peers/$peer.txt" "benchmarks/peers/$peer.in"
done
