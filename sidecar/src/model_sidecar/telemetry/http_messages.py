"""What is asked and what is answered over HTTP, as far as GET and HEAD need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. `path` is decoded and without the query; header names are lower-case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def text(status: HTTPStatus, words: str) -> Response:
    """An answer in plain words."""
    return Response(status, "text/plain; charset=utf-8", f"{words}\n".encode())
