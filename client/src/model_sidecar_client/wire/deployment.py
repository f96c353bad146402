"""The messages of proto/model_sidecar/v1/deployment.proto; their types stand beside this in deployment.pyi."""

from model_sidecar_client.wire.pool import exports

globals().update(exports("model_sidecar/v1/deployment.proto"))
