#!/usr/bin/env bash
# Build the image with docker, podman or buildah, whichever answers first.
#
# Where there is none, and we are root on Debian, this installs Debian's buildah and debootstrap: they build without
# a daemon, in chroot isolation, on a base made from Debian's own packages (for places that reach no image registry).
#
#   IMAGE         the name to give it                                     (model-sidecar:dev)
#   BASE_IMAGE    the base to build on      (the Dockerfile's own; with buildah and debootstrap, Debian's python3.11)
#   PIP_CONFIG    a pip.conf for the build stage alone          (made from this machine's pip settings if not given)
set -euo pipefail
cd "$(dirname "$0")/.."

image=${IMAGE:-model-sidecar:dev}
base=${BASE_IMAGE:-}
suite=bookworm
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# An engine that is installed but cannot run (a docker client without its daemon) is none.
find_engine() {
    local name
    for name in docker podman; do
        if command -v "$name" >/dev/null && "$name" info >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    if command -v buildah >/dev/null; then echo buildah; fi
}

install_buildah() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo 'image: no container engine answers; install docker, podman or buildah' >&2
        exit 1
    fi
    echo 'image: no container engine here, installing buildah and debootstrap'
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah debootstrap >/dev/null
}

# A base from Debian packages alone, which has what the Dockerfile asks of a base: python3 with venv.
bootstrap_base() {
    local name=localhost/model-sidecar-base:$suite container
    if ! buildah inspect --type image "$name" >/dev/null 2>&1; then
        echo "image: making the base $name from Debian packages" >&2
        debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$suite" "$scratch/base" \
            >"$scratch/debootstrap.log" || { tail -n 20 "$scratch/debootstrap.log" >&2; exit 1; }
        rm -rf "${scratch:?}"/base/{var/cache/apt,var/lib/apt/lists,dev}/*
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$scratch/base" / >/dev/null
        buildah commit --quiet --rm "$container" "$name" >/dev/null
        rm -rf "$scratch/base"
    fi
    echo "$name"
}

# This machine's way to the package index, for the build stage's eyes only.
pip_secrets() {
    local setting key value
    if [ -n "${PIP_CONFIG:-}" ]; then
        cp "$PIP_CONFIG" "$scratch/pip.conf"
    else
        echo '[global]' >"$scratch/pip.conf"
        for setting in index-url cert; do
            key=PIP_${setting^^}
            key=${key//-/_}
            value=${!key:-$(python3 -m pip config get "global.$setting" 2>/dev/null || true)}
            if [ -z "$value" ]; then continue; fi
            if [ "$setting" = cert ]; then
                cp "$value" "$scratch/ca.crt"
                value=/run/secrets/ca.crt
            fi
            echo "$setting = $value" >>"$scratch/pip.conf"
        done
    fi
    secrets=(--secret "id=pip.conf,src=$scratch/pip.conf")
    if [ -e "$scratch/ca.crt" ]; then secrets+=(--secret "id=ca.crt,src=$scratch/ca.crt"); fi
}

engine=$(find_engine)
if [ -z "$engine" ]; then
    install_buildah
    engine=buildah
fi
case $engine in
    buildah)
        # No namespaces, no runtime, no daemon: those are often missing where buildah has to stand in.
        export BUILDAH_ISOLATION=chroot
        if [ -z "$base" ] && command -v debootstrap >/dev/null; then base=$(bootstrap_base); fi
        # The docker format, because OCI's own has no place for a HEALTHCHECK.
        build=(buildah build --format docker --layers=false)
        ;;
    podman) build=(podman build --format docker) ;;
    docker) build=(docker build) ;;
esac

arguments=(
    --tag "$image"
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' sidecar/pyproject.toml)"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
)
if [ -n "$base" ]; then arguments+=(--build-arg "BASE_IMAGE=$base"); fi
pip_secrets

echo "image: building $image with $engine${base:+ on $base}"
"${build[@]}" --quiet "${arguments[@]}" "${secrets[@]}" .
echo "image: $image"
