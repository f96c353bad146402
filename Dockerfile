# The sidecar's image: two stages, hashed requirements, nobody's privileges, nothing written below /.
#
#   make image                            with whatever engine is there
#   docker build -t model-sidecar .       the same by hand
#
# BASE_IMAGE: any image that offers python3 (3.11 or newer) with venv. Pin it by digest in a release.
# Secrets, both optional, seen by the build stage only and kept in no layer: `pip.conf` (another package index) and
# `ca.crt` (the certificate authority in front of it; name /run/secrets/ca.crt in that pip.conf).
ARG BASE_IMAGE=python:3.11-slim-bookworm

# ------------------------------------------------------------------------------------------------ build
FROM ${BASE_IMAGE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /build

# pip and the build backend stay in an environment of their own, so that the one which is shipped has neither.
COPY requirements/build.txt requirements/sidecar.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/run/secrets/ca.crt \
    python3 -m venv /build/tools \
    && /build/tools/bin/pip install --quiet --require-hashes -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/model-sidecar \
    && /build/tools/bin/pip --python /opt/model-sidecar/bin/python install --quiet --no-compile \
        --require-hashes -r requirements/sidecar.txt

COPY LICENSE ./
COPY client client
COPY sidecar sidecar
# Bytecode is compiled here because a read-only root cannot keep any, and "unchecked" because its sources are as
# immutable as itself: no stat per import, and no dependence on what a layer does to modification times.
RUN cp LICENSE client/ && cp LICENSE sidecar/ \
    && /build/tools/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation -w wheels ./client ./sidecar \
    && /build/tools/bin/pip --python /opt/model-sidecar/bin/python install --quiet --no-compile \
        --no-deps --no-index wheels/*.whl \
    && /opt/model-sidecar/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/model-sidecar/lib

# ------------------------------------------------------------------------------------------------ runtime
FROM ${BASE_IMAGE}

ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown

LABEL org.opencontainers.image.title="model-sidecar" \
      org.opencontainers.image.description="Serves the one verified model version its pointer names; rolls back in milliseconds" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

COPY --from=build /opt/model-sidecar /opt/model-sidecar

# The only places it writes to: its sockets, its state, and the pointers and ledgers in the store. A named volume
# mounted there inherits the owner.
RUN install -d -o 65532 -g 65532 -m 0755 /models /run/sidecar \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/model-sidecar

# ORT_DISABLE_TELEMETRY: from 1.29 on, onnxruntime reports to its vendor over the network unless told not to.
ENV PATH=/opt/model-sidecar/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MODEL_SIDECAR_STORE=/models \
    MODEL_SIDECAR_STATE_DIR=/var/lib/model-sidecar \
    MODEL_SIDECAR_DATA=unix:/run/sidecar/data.sock \
    MODEL_SIDECAR_CONTROL=unix:/run/sidecar/control.sock \
    MODEL_SIDECAR_HTTP=0.0.0.0:8002

# Metrics, health and the pointer, all read-only. Predictions and operators come in through /run/sidecar.
EXPOSE 8002

# A number, so that Kubernetes' runAsNonRoot can tell; no entry in /etc/passwd is needed.
USER 65532:65532

STOPSIGNAL SIGTERM
# For docker and compose; Kubernetes uses gRPC and HTTP probes of its own instead.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["model-sidecar", "probe"]

ENTRYPOINT ["model-sidecar"]
CMD ["serve"]
