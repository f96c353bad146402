"""The messages of proto/google/rpc/error_details.proto; their types stand beside this in error_details.pyi."""

from model_sidecar_client.wire.pool import exports

globals().update(exports("google/rpc/error_details.proto"))
