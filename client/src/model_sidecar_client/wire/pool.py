"""The wire's messages, in a descriptor pool of their own.

tritonclient, the KServe SDK and MLServer all register `inference.*` in protobuf's process-wide pool, and two that do
so cannot live in one process. Ours stays out of it: importing this package beside any of them, in either order, works,
and so does any protobuf runtime that reads the wire format.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The pool that holds every message of this package; server reflection is answered from it too."""
    packaged = resources.files(__package__).joinpath("descriptors.binpb").read_bytes()
    private = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(packaged).file:
        private.Add(file)  # protoc lists a file after all that it imports
    return private


def exports(proto: str) -> dict[str, Any]:
    """What a generated module for this .proto file would define: classes, enum wrappers, enum values."""
    file = pool().FindFileByName(proto)
    names: dict[str, Any] = {"DESCRIPTOR": file}
    for name, message in file.message_types_by_name.items():
        names[name] = message_factory.GetMessageClass(message)
    for name, enum in file.enum_types_by_name.items():
        names[name] = enum_type_wrapper.EnumTypeWrapper(enum)
        names.update((value.name, value.number) for value in enum.values)
    return names
