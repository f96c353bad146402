"""Frozen records as messages that have the same fields: what stands in one place need not be spelt out in another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.message import Message

from model_sidecar.rpc.status import printable

M = TypeVar("M", bound=Message)

_TEXT_BYTES = 1024


def filled(message: M, record: object) -> M:
    """The message, with the fields that the record has; None leaves a field absent.

    Text is made printable and bounded; an enum's value is the name of the wire's without its prefix, or text.
    """
    for field in message.DESCRIPTOR.fields:
        value = getattr(record, field.name, None)
        if value is None:
            continue
        if isinstance(value, int | float):
            setattr(message, field.name, value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            there = getattr(message, field.name)
            for each in value:
                if field.message_type is None:
                    there.append(_scalar(field, each))
                else:
                    filled(there.add(), each)
        elif isinstance(value, datetime):
            getattr(message, field.name).FromDatetime(value)
        elif field.message_type is not None:
            filled(getattr(message, field.name), value)
        else:
            setattr(message, field.name, _scalar(field, value))
    return message


def _scalar(field: Any, value: object) -> object:
    if field.enum_type is not None:
        assert isinstance(value, Enum)
        return field.enum_type.values_by_name[f"{field.enum_type.name.upper()}_{value.name}"].number
    return printable(value, limit=_TEXT_BYTES) if isinstance(value, str) else value
