"""For applications' tests: a sidecar that answers without a model, over real gRPC on a real socket.

    from model_sidecar_client import Client
    from model_sidecar_client.testing import StandInSidecar

    with StandInSidecar() as sidecar, Client(sidecar.target) as client:
        sidecar.answer("recommendation-v1", {"y": [[0.5]]}, version="2024.01.15.prod")
        assert client.predict("recommendation-v1", {"x": [[1.0]]}).version == "2024.01.15.prod"

        sidecar.fail_next("ModelInfer", grpc.StatusCode.RESOURCE_EXHAUSTED, reason="OVERLOADED", retry_after_s=0.5)
        ...
        assert [each.inputs["x"] for each in sidecar.received("ModelInfer")] == ...

Feedback on its predictions is joined, or a duplicate, and on others unknown.

It also deploys and rolls back, in a ledger of its own that is gone when it closes, so that code which uses `Operator` or
`sidecarctl` can be tested: `publish` versions, then deploy them.
"""

from model_sidecar_client.testing.script import Hold, Received
from model_sidecar_client.testing.stand_in import StandInSidecar

__all__ = ["Hold", "Received", "StandInSidecar"]
