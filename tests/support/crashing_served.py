"""A whole sidecar on what a broken operation has left."""

from __future__ import annotations

import shutil

from support.crashing import Outcome, Stage
from support.operations import A, B
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard


def serve_what_is_left(stage: Stage, outcome: Outcome) -> str:
    """Serve the store that was kept, hold the answers against the ledger, and order the next version.

    Returns the version that answered after the start. (Where nothing was deployed yet, the first one is.)
    """
    assert outcome.kept is not None
    yard = Yard(outcome.kept, dict(stage.yard.constants))
    with RunningSidecar(yard) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            if not yard.pointer.exists() and yard.ledger().head is None:
                operator.deploy(MODEL, A, environment=PROD)
            sidecar.wait_ready()
            if (head := yard.ledger().head) is not None:
                sidecar.wait_version(head.version)
            value, version = sidecar.predict(1.0)
            assert value == yard.expected(version, 1.0)
            head = yard.ledger().head
            assert head is not None
            assert version == head.version, f"{version} answers, the head is {head.version}"
            done = operator.deploy(MODEL, B, environment=PROD)
            assert done.generation == head.generation + 1
        assert sidecar.predict(2.0) == (yard.expected(B, 2.0), B)
        assert sidecar.stop() == 0
    shutil.rmtree(outcome.kept)
    return version
