"""Shared memory as its owners use it, well or badly: objects, regions of them, and requests that name regions."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Self

from support.rpc_plane import RPC_S

from model_sidecar_client.wire.inference import (
    ModelInferRequest,
    SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryStatusRequest,
    SystemSharedMemoryUnregisterRequest,
)

FOLDER = Path("/dev/shm")  # noqa: S108 - where shared memory objects are
PREFIX = "model-sidecar-test-"


class SharedObject:
    """A shared memory object that this process made, and removes at the end."""

    def __init__(self, size: int) -> None:
        self.path = FOLDER / (PREFIX + secrets.token_hex(8))
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.resize(size)

    @property
    def key(self) -> str:
        """What others open it by."""
        return "/" + self.path.name

    def resize(self, size: int) -> None:
        """Cut it off, or make it longer with zeros."""
        os.ftruncate(self.descriptor, size)

    def size(self) -> int:
        """Its length, now."""
        return os.fstat(self.descriptor).st_size

    def write(self, content: bytes, at: int = 0) -> None:
        """Put bytes there."""
        os.pwrite(self.descriptor, content, at)

    def read(self, size: int, at: int = 0) -> bytes:
        """What is there."""
        return os.pread(self.descriptor, size, at)

    def unlink(self) -> None:
        """Take its name away."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unlink()
        self.close()


def register(call: SimpleNamespace, name: str, key: str, byte_size: int, *, offset: int = 0) -> None:
    """Register a region."""
    request = SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=byte_size)
    call.SystemSharedMemoryRegister(request, timeout=RPC_S)


def unregister(call: SimpleNamespace, name: str = "") -> None:
    """Unregister a region, or all."""
    call.SystemSharedMemoryUnregister(SystemSharedMemoryUnregisterRequest(name=name), timeout=RPC_S)


def registered(call: SimpleNamespace, name: str = "") -> dict[str, tuple[str, int, int]]:
    """What is registered: key, offset and size by name."""
    status = call.SystemSharedMemoryStatus(SystemSharedMemoryStatusRequest(name=name), timeout=RPC_S)
    return {each.name: (each.key, each.offset, each.byte_size) for each in status.regions.values()}


def laid_in(
    tensor: ModelInferRequest.InferInputTensor | ModelInferRequest.InferRequestedOutputTensor,
    region: str,
    byte_size: int,
    *,
    offset: int | None = None,
) -> None:
    """Say that this tensor lies in a region."""
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    if offset is not None:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def from_region(
    region: str,
    byte_size: int,
    *,
    shape: tuple[int, ...] = (1, 2),
    datatype: str = "FP32",
    offset: int | None = None,
    model: str = "echo",
    name: str = "x",
) -> ModelInferRequest:
    """A request whose one input lies in a region."""
    request = ModelInferRequest(model_name=model)
    laid_in(request.inputs.add(name=name, datatype=datatype, shape=shape), region, byte_size, offset=offset)
    return request
