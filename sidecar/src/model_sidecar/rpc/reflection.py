"""Server reflection on the control plane, so that grpcurl and the like can ask what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from model_sidecar.rpc.slots import Slots
from model_sidecar_client.wire.pool import pool

STREAMS = 4


class Reflection:
    """Answers for the services it is told of; each stream holds a thread, so there are only a few."""

    def __init__(self, services: Iterable[str]) -> None:
        self._servicer = reflection.ReflectionServicer(
            (*services, reflection.SERVICE_NAME), pool=_described(services)
        )
        self._slots = Slots("reflection streams", STREAMS)

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server has to be given."""
        method = grpc.stream_stream_rpc_method_handler(
            self._info,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {"ServerReflectionInfo": method})

    def _info(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        with self._slots.taken():
            yield from self._servicer.ServerReflectionInfo(requests, context)


def _described(services: Iterable[str]) -> descriptor_pool.DescriptorPool:
    """A pool of what is served here and nothing else: our messages stand in one, health's and reflection's in another."""
    made = descriptor_pool.DescriptorPool()
    seen: set[str] = set()

    def add(file: Any) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        made.Add(proto)

    ours = pool()
    for service in services:
        try:
            add(ours.FindServiceByName(service).file)
        except KeyError:
            continue  # health's, below
    add(health_pb2.DESCRIPTOR)
    add(reflection_pb2.DESCRIPTOR)
    return made
