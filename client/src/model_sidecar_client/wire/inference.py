"""The messages of proto/inference/inference.proto; their types stand beside this in inference.pyi."""

from model_sidecar_client.wire.pool import exports

globals().update(exports("inference/inference.proto"))
