"""The messages of proto/model_sidecar/v1/feedback.proto; their types stand beside this in feedback.pyi."""

from model_sidecar_client.wire.pool import exports

globals().update(exports("model_sidecar/v1/feedback.proto"))
