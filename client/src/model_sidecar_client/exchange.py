"""What is asked, in which order, without saying how: the part that synchronous and asyncio clients share.

An exchange is a generator. It yields an `Ask` and is sent the answer (or thrown our error), or yields a `Pause`; what it
returns is the result. `transport` drives it, once with plain calls and once with awaits.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from model_sidecar_client.errors import InvalidRequestError

M = TypeVar("M", bound=Message)
T = TypeVar("T")


class Ask(NamedTuple):
    """One call.

    Attributes:
        method: the RPC's name, as in the .proto file.
        request: its message; of a client-streaming RPC, its messages.
        wait_for_ready: hold the call until there is a connection, instead of failing while nothing listens.
    """

    method: str
    request: Message | Sequence[Message]
    wait_for_ready: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Go on after this many seconds."""

    seconds: float


# The answers' types depend on the question, which no generator type can say: hence Any.
Exchange = Generator[Ask | Pause, Any, T]


def made(kind: type[M], **fields: object) -> M:
    """A message with the fields that are not None.

    Raises:
        InvalidRequestError: a value that the wire cannot carry: a negative generation, text that is no Unicode.
    """
    try:
        return kind(**{name: value for name, value in fields.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{kind.__name__}: {error}") from error
