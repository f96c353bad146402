"""Where a site's ledger and pointer lie in a store, and who writes there."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

from model_sidecar.ledger.face import PointerFace
from model_sidecar.ledger.file_backend import FileBackend
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.record import Writer
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.software import SOFTWARE_NAME, SOFTWARE_VERSION
from model_sidecar.store.layout import Layout


def open_ledger(
    layout: Layout,
    model: ModelName,
    environment: Environment,
    *,
    sidecar_id: str = "",
    memory: Memory | None = None,
) -> Ledger:
    """The ledger of one model in one environment. Nothing is read yet, and nothing made."""
    host = socket.gethostname()
    return Ledger(
        FileBackend(layout.ledger(model, environment)),
        PointerFace(layout.pointer(model, environment)),
        model=model,
        environment=environment,
        writer=Writer(
            sidecar=sidecar_id or f"{host}-{os.getpid()}",
            host=host,
            software=f"{SOFTWARE_NAME} {SOFTWARE_VERSION}",
        ),
        now=lambda: datetime.now(UTC),
        memory=memory,
    )
