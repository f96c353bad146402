"""The system shared memory calls of `inference.GRPCInferenceService`, as Triton has them. Off unless it is asked for."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from model_sidecar.rpc.regions import Regions
from model_sidecar.rpc.shared_tensors import SharedTensors
from model_sidecar_client.wire.inference import (
    SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryRegisterResponse,
    SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse,
    SystemSharedMemoryUnregisterRequest,
    SystemSharedMemoryUnregisterResponse,
)

EXTENSION = "system_shared_memory"

_Result = TypeVar("_Result")

# Each region holds a descriptor: an eighth of those that the process may have, where that is few.
_MOST_REGIONS = 256
_OF_DESCRIPTORS = 8
# One request that is answered, and one that is noted.
_KEPT_REQUESTS = 2


class SharedMemoryService:
    """Registers regions. Belongs to the loop that serves it.

    Attributes:
        tensors: finds the regions that requests name.
    """

    def __init__(self, *, max_request_bytes: int) -> None:
        """Take at most `max_request_bytes` of one request from regions."""
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._regions = Regions(
            most=min(_MOST_REGIONS, soft // _OF_DESCRIPTORS), keep_bytes=_KEPT_REQUESTS * max_request_bytes
        )
        self.tensors = SharedTensors(self._regions, max_request_bytes=max_request_bytes)
        # To give back the memory of a large object takes milliseconds.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shared-memory")

    async def SystemSharedMemoryRegister(
        self, request: SystemSharedMemoryRegisterRequest, context: Any
    ) -> SystemSharedMemoryRegisterResponse:
        """Make a part of a shared memory object known by a name."""
        await self._off_loop(
            partial(self._regions.register, request.name, request.key, request.offset, request.byte_size)
        )
        return SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(
        self, request: SystemSharedMemoryUnregisterRequest, context: Any
    ) -> SystemSharedMemoryUnregisterResponse:
        """Forget a region, whether there is one of this name or not; "" forgets all."""
        await self._off_loop(partial(self._regions.unregister, request.name))
        return SystemSharedMemoryUnregisterResponse()

    async def SystemSharedMemoryStatus(
        self, request: SystemSharedMemoryStatusRequest, context: Any
    ) -> SystemSharedMemoryStatusResponse:
        """The region of this name, or all of them."""
        status = SystemSharedMemoryStatusResponse()
        for region in self._regions.listed(request.name):
            told = status.regions[region.name]
            told.name, told.key = region.name, region.key
            told.offset, told.byte_size = region.offset, region.byte_size
        return status

    def close(self) -> None:
        """Register nothing more, and forget what is registered; after the server has stopped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._regions.close()

    async def _off_loop(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
