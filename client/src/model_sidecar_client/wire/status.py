"""The messages of proto/google/rpc/status.proto; their types stand beside this in status.pyi."""

from model_sidecar_client.wire.pool import exports

globals().update(exports("google/rpc/status.proto"))
