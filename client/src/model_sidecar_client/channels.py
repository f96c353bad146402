"""Where a channel leads and how it behaves: targets, message limits, retries, reconnection."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from model_sidecar_client.errors import InvalidRequestError
from model_sidecar_client.wire.services import INFERENCE

ChannelOptions = Sequence[tuple[str, str | int]]
Metadata = Sequence[tuple[str, str | bytes]]

# HTTP/2's and gRPC's grammar of metadata: bytes only under a key that ends in -bin, text in printable ASCII.
_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+", re.ASCII)
_TEXT = re.compile(r"[\x20-\x7e]*", re.ASCII)


def _retrying(*codes: str, **method: str) -> dict[str, object]:
    policy = {"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "0.5s", "backoffMultiplier": 2}
    return {"name": [method], "retryPolicy": {**policy, "retryableStatusCodes": codes}}


# gRFC A6. Only UNAVAILABLE: whatever else failed would fail again, or may have been done already. Predictions and
# questions, which change nothing, also where the server said CANCELLED: that is gRPC in a sidecar with too many calls
# that nobody has looked at (`--backlog`). The throttle stops retries once about half of the recent calls fail, so that a sick sidecar is
# not asked three times as often. A stream is never opened again by itself: its askers must know what was not answered.
_SERVICE_CONFIG = {
    "methodConfig": [
        _retrying("UNAVAILABLE"),
        _retrying("UNAVAILABLE", "CANCELLED", service=INFERENCE),
        {"name": [{"service": INFERENCE, "method": "ModelStreamInfer"}]},
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
_EXPECTED = "expected unix:/path/of.sock or host:port"


def checked_target(target: str) -> str:
    """The target as gRPC takes it: `unix:/path`, `unix:///path`, `host:port` or another of gRPC's own schemes.

    Raises:
        InvalidRequestError: a form that gRPC would take for a host name and look for in vain.
    """
    scheme, colon, rest = target.partition(":")
    if not target or target != target.strip():
        raise InvalidRequestError(f"target {target!r}: {_EXPECTED}")
    if target.startswith("/"):
        raise InvalidRequestError(f"target {target!r} is a path: {_EXPECTED}, such as unix:{target}")
    if scheme.lower() in {"http", "https", "grpc", "tcp"}:
        raise InvalidRequestError(f"target {target!r} is a URL: {_EXPECTED}")
    if not colon or not rest:
        raise InvalidRequestError(f"target {target!r} names no port: {_EXPECTED}")
    return target


def channel_options(target: str, further: ChannelOptions) -> list[tuple[str, str | int]]:
    """Our channel options for this target, with `further` ones in their place: of two, gRPC would take the first."""
    options: list[tuple[str, str | int]] = [
        # The sidecar limits messages and names its limit; a second limit here would only hide it.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # gRPC would wait up to two minutes before it looks again for a sidecar that restarts beside us.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A new client starts with a connection attempt, not inside the backoff of an earlier one's failed attempt.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_local(target):
        # A proxy from the environment (http_proxy) cannot reach this machine's own sockets.
        options.append(("grpc.enable_http_proxy", 0))
    return list({**dict(options), **dict(further)}.items())


def is_local(target: str) -> bool:
    """Whether the target is on this machine: a Unix socket or a loopback address."""
    host = target.removeprefix("dns:///").removeprefix("ipv4:").removeprefix("ipv6:")
    return target.startswith(("unix:", "unix-abstract:")) or host.startswith(("localhost:", "127.", "[::1]"))


def checked_timeout(timeout_s: float) -> float:
    """A deadline that a call can have: a positive, finite number of seconds."""
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise InvalidRequestError(f"timeout_s is {timeout_s}: expected a positive number of seconds")
    return timeout_s


def checked_metadata(metadata: Metadata) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata as gRPC can send them.

    Raises:
        InvalidRequestError: a key or value off the grammar, which gRPC would report as the server's failure.
    """
    for key, value in metadata:
        is_fit = (
            isinstance(value, bytes)
            if key.endswith("-bin")
            else isinstance(value, str) and _TEXT.fullmatch(value)
        )
        if not (_KEY.fullmatch(key) and is_fit):
            raise InvalidRequestError(
                f"metadata {key!r} cannot be sent: expected a lower-case key with printable ASCII text, or "
                "one that ends in -bin with bytes"
            )
    return tuple(metadata)
