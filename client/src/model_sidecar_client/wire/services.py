"""Method tables read from the descriptors, so that no service is written down twice.

`multicallables` makes a client's callables and `handler` a server's; both work with a synchronous and with an `aio`
channel or server, for grpcio uses the same method names in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from model_sidecar_client.wire.pool import pool

INFERENCE = "inference.GRPCInferenceService"
DEPLOYMENT = "model_sidecar.v1.DeploymentService"
FEEDBACK = "model_sidecar.v1.FeedbackService"


def multicallables(channel: Any, *service: str) -> SimpleNamespace:
    """One callable per method of the services, named as in the .proto files."""
    made = SimpleNamespace()
    for method in (method for name in service for method in pool().FindServiceByName(name).methods):
        request, response = _classes(method)
        make = getattr(channel, _kind(method))
        path = f"/{method.containing_service.full_name}/{method.name}"
        callable_ = make(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        setattr(made, method.name, callable_)
    return made


def service_of(method: str, services: Sequence[str]) -> str:
    """Which of these services has a method of this name; the first where none has."""
    for service in services:
        if method in pool().FindServiceByName(service).methods_by_name:
            return service
    return services[0]


def handler(
    service: str, implementation: object, *, serializers: Mapping[str, Callable[[Any], bytes]] | None = None
) -> grpc.GenericRpcHandler:
    """A server's handler for every method that `implementation` has; grpc answers UNIMPLEMENTED to the others.

    `serializers` are those of methods whose answers are not to be serialized in one go.
    """
    methods = {}
    own = serializers or {}
    for method in pool().FindServiceByName(service).methods:
        function = getattr(implementation, method.name, None)
        if function is None:
            continue
        request, response = _classes(method)
        make = getattr(grpc, f"{_kind(method)}_rpc_method_handler")
        methods[method.name] = make(
            function,
            request_deserializer=request.FromString,
            response_serializer=own.get(method.name, response.SerializeToString),
        )
    return grpc.method_handlers_generic_handler(service, methods)


def _classes(method: MethodDescriptor) -> tuple[Any, Any]:
    return (
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
    )


def _kind(method: MethodDescriptor) -> str:
    sides = (
        "stream" if method.client_streaming else "unary",
        "stream" if method.server_streaming else "unary",
    )
    return "_".join(sides)
