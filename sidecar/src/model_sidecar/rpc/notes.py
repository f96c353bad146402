"""What this room notes of every answer, as a Protocol: `monitor` implements it, `app` hands it in."""

from __future__ import annotations

from typing import Protocol

from model_sidecar.monitor.intake import Note
from model_sidecar_client.wire.inference import ModelInferRequest

MONITOR_KEY = "monitor_key"
"""The request's parameter that says what its rows depend on, such as a session (docs/contract.md)."""


class Notes(Protocol):
    """Where answers are noted. Called on the request's path, from several threads: be quick, and do not raise."""

    def note(self, note: Note, size: int) -> None:
        """Keep what was answered, about `size` bytes in memory, until somebody has looked at it; or drop it."""
        ...

    def failed(self, note: Note, size: int) -> None:
        """Keep in the same way what the model has failed on; `note` has no outputs."""
        ...


def monitor_key(request: ModelInferRequest) -> str | int | None:
    """What the request says that its rows depend on; None where it says nothing, or neither a string nor an int64."""
    parameters = request.parameters
    if not parameters or MONITOR_KEY not in parameters:
        return None
    told = parameters[MONITOR_KEY]
    match told.WhichOneof("parameter_choice"):
        case "string_param":
            return str(told.string_param)
        case "int64_param":
            return int(told.int64_param)
        case _:
            return None
