"""Reflection on the control listener: what is served there can be found and called without its .proto files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.rpc_control import Control
from support.rpc_plane import RPC_S, Plane

SERVICE = "model_sidecar.v1.DeploymentService"
FEEDBACK = "model_sidecar.v1.FeedbackService"


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[grpc.Channel]:
    with Control(tmp_path).running() as control, control.channel() as made:
        yield made


def ask(channel: grpc.Channel, **question: Any) -> Any:
    request = reflection_pb2.ServerReflectionRequest(**question)
    info: Any = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    (answer,) = info(iter([request]), timeout=RPC_S)
    return answer


def test_the_services_of_the_listener_are_listed(channel: grpc.Channel) -> None:
    """Exactly what is served there is listed."""
    found = {each.name for each in ask(channel, list_services="").list_services_response.service}
    assert found == {SERVICE, FEEDBACK, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def test_a_call_can_be_made_from_what_reflection_tells(channel: grpc.Channel) -> None:
    """The descriptors that come back are whole: a client builds its messages from them and gets an answer."""
    answer = ask(channel, file_containing_symbol=SERVICE)
    pool = descriptor_pool.DescriptorPool()
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(each)
        for each in answer.file_descriptor_response.file_descriptor_proto
    ]
    known: set[str] = set()
    while files:
        ready = [each for each in files if set(each.dependency) <= known]
        assert ready, [each.name for each in files]
        for each in ready:
            pool.Add(each)
            known.add(each.name)
            files.remove(each)
    method = pool.FindServiceByName(SERVICE).FindMethodByName("GetStatus")
    request: Any = message_factory.GetMessageClass(method.input_type)()
    response: Any = message_factory.GetMessageClass(method.output_type)
    call: Any = channel.unary_unary(f"/{SERVICE}/GetStatus", response_deserializer=response.FromString)
    assert call(request.SerializeToString(), timeout=RPC_S).statuses[0].model == "adder"


def test_what_is_not_served_there_is_not_found(channel: grpc.Channel) -> None:
    """The inference service belongs to another listener, and symbols of nobody to none."""
    for symbol in ("nobody.Nothing", "inference.GRPCInferenceService"):
        assert (
            ask(channel, file_containing_symbol=symbol).error_response.error_code
            == grpc.StatusCode.NOT_FOUND.value[0]
        )


def test_open_streams_are_bounded(channel: grpc.Channel) -> None:
    """The fifth stream that stays open is refused, and health is answered beside the four."""
    info: Any = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo

    def forever() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        done.wait(RPC_S)

    done = threading.Event()
    streams = [info(forever(), timeout=RPC_S) for _ in range(4)]
    for stream in streams:
        next(stream)
    with pytest.raises(grpc.RpcError) as caught:
        next(info(forever(), timeout=RPC_S))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    health: Any = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=RPC_S).status
    done.set()
    for stream in streams:
        stream.cancel()


def test_the_data_listener_has_none(tmp_path: Path) -> None:
    """Reflection is for operators: where applications connect it is UNIMPLEMENTED."""
    with Plane(tmp_path).running() as plane, grpc.insecure_channel(str(plane.bound[0])) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel, list_services="")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
