"""What a request says of tensors in shared memory: which region, where in it, how many bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_sidecar.errors import InvalidInputError
from model_sidecar.rpc.regions import Regions, Window
from model_sidecar_client.wire.inference import InferParameter, ModelInferRequest

REGION, OFFSET, BYTE_SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"


class SharedTensors:
    """Finds the regions that requests name. Any thread may ask."""

    def __init__(self, regions: Regions, *, max_request_bytes: int) -> None:
        """Take at most `max_request_bytes` of one request from `regions`."""
        self._regions = regions
        self._max_request_bytes = max_request_bytes

    def window(self, parameters: Mapping[str, InferParameter], *, where: str) -> Window:
        """Where the tensor lies whose parameters these are; `where` names it.

        Raises:
            NotFoundError: REGION_NOT_FOUND.
            InvalidInputError: the parameters make no sense, or lead out of the region.
        """
        named = parameters[REGION]
        if named.WhichOneof("parameter_choice") != "string_param":
            raise InvalidInputError(f"{where}: parameter {REGION} is no string: expected a region's name")
        return self._regions.window(
            named.string_param,
            _number(parameters, OFFSET, where) if OFFSET in parameters else 0,
            _number(parameters, BYTE_SIZE, where),
            where=where,
        )

    def request_bytes(self, request: ModelInferRequest) -> int:
        """How many bytes of its inputs a request leaves in shared memory.

        Raises:
            InvalidInputError: more than a message may have, or it does not say how many.
        """
        total = 0
        for tensor in request.inputs:
            parameters = tensor.parameters
            if parameters and REGION in parameters:
                total += _number(parameters, BYTE_SIZE, f"input {tensor.name[:200]!r}")
        if total > self._max_request_bytes:
            raise InvalidInputError(
                f"the inputs in shared memory have {total} bytes, and a request at most {self._max_request_bytes} "
                "(--max-message): send fewer rows at once"
            )
        return total


def say(parameters: Any, window: Window, size: int) -> None:
    """Tell in an answered tensor's parameters where it lies."""
    parameters[REGION].string_param = window.region.name
    parameters[BYTE_SIZE].int64_param = size
    if window.offset:
        parameters[OFFSET].int64_param = window.offset


def _number(parameters: Mapping[str, InferParameter], name: str, where: str) -> int:
    given = parameters.get(name)
    kind = None if given is None else given.WhichOneof("parameter_choice")
    if given is None or kind not in ("int64_param", "uint64_param"):
        raise InvalidInputError(f"{where}: parameter {name} is no integer: expected a number of bytes")
    number = int(getattr(given, kind))
    if number < 0:
        raise InvalidInputError(f"{where}: parameter {name} is {number}: expected a number of bytes")
    return number
