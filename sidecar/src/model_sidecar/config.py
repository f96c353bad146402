"""The settings of `serve`, parsed once and frozen. How they are gathered (flag, environment, file) is the CLI's part."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from model_sidecar.errors import ConfigurationError
from model_sidecar.release.names import Environment, ModelName

# Digits are bounded: no wait is endless, and Python refuses to read integers of thousands of them.
_DURATION = re.compile(r"(?P<count>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>ms|s|m|h)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S = 366 * 24 * 3600.0
_SIZE = re.compile(r"(?P<count>[0-9]{1,18})(?P<unit>B|KiB|MiB|GiB)?", re.ASCII)
_BYTES = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_HOST = re.compile(r"[0-9A-Za-z._:%-]{1,253}", re.ASCII)  # a name, or an address of either kind
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_SUN_PATH_BYTES = 107
_GRPC_LARGEST = (1 << 31) - 1
_LEAST_LOAD_MEMORY = 16 << 20
"""With less, not even the smallest version can be tried, and each would be blamed for it."""


class StandbyPolicy(StrEnum):
    """Whether the version before the live one stays resident, to be rolled back to in milliseconds."""

    RESIDENT = "resident"
    NONE = "none"


class SwapMode(StrEnum):
    """What happens where memory does not suffice for the live version and the next beside it."""

    OVERLAP = "overlap"
    UNLOAD_FIRST = "unload-first"


class GuardMode(StrEnum):
    """Whether the guard rolls back by itself."""

    OFF = "off"
    DRY_RUN = "dry-run"
    ON = "on"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSettings:
    """What is watched, and how closely.

    Attributes:
        enabled: False: nothing is noted.
        log_sample: the share of predictions that the log keeps, by a hash of their ids, for feedback to find.
        feature_sample: the share of the kept ones whose features are kept too.
        log_bytes: how large the log may become.
        drift_band: by how much a share may differ from the baseline's before that counts.
        drift_budget_s: at most one false alarm of a version in so long, on average, all streams together.
        thin_s: rows with the same `monitor_key` count once in so long.
        stream_counters: whether each bin of each stream is a Prometheus counter.
    """

    enabled: bool = True
    log_sample: float = 1.0
    feature_sample: float = 0.01
    log_bytes: int = 1 << 30
    drift_band: float = 0.05
    drift_budget_s: float = 28 * 24 * 3600.0
    thin_s: float = 60.0
    stream_counters: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """When a version is rolled back without being told to.

    Attributes:
        shadow_sample: the share of requests that also run on the standby, off their path, to be compared.
        min_predictions: how many a version must have answered before it is judged.
        cooldown_s: how long after its last rollback it does not roll back again.
        max_disagreement: the share of predictions that may differ from the previous version's.
        max_confidence_loss: by how much the mean confidence may be below the previous version's on the same requests.
        slo_errors: the share of predictions that may fail, or not be finite; 14.4 times that is a burn.
        slo_latency_s: for one in a hundred the model may take longer; None: latency is not judged.
    """

    mode: GuardMode = GuardMode.OFF
    shadow_sample: float = 0.05
    min_predictions: int = 100
    cooldown_s: float = 600.0
    max_disagreement: float = 0.3
    max_confidence_loss: float = 0.2
    slo_errors: float = 0.001
    slo_latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a Unix socket's path, or a TCP host and port (port 0: any free one)."""

    path: str | None = None
    host: str = ""
    port: int = 0

    @property
    def is_unix(self) -> bool:
        """Whether this is a Unix socket."""
        return self.path is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.is_unix or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Everything that `model-sidecar serve` can be told; each has the option, variable and key of the same name."""

    store: Path
    models: tuple[ModelName, ...]
    environment: Environment
    state_dir: Path | None = None
    data: tuple[Address, ...] = ()
    control: tuple[Address, ...] = ()
    http: Address | None = None
    standby: StandbyPolicy = StandbyPolicy.RESIDENT
    poll_interval_s: float = 1.0
    file_events: bool = True
    max_message_bytes: int = 64 << 20
    shared_memory: bool = False
    allow_external_data: bool = False
    swap_mode: SwapMode = SwapMode.OVERLAP
    load_timeout_s: float = 120.0
    load_memory_bytes: int | None = None
    threads: int = 0
    max_batch_rows: int = 64
    max_inflight: int = 1024
    max_queue_wait_s: float = 5.0
    max_run_s: float = 60.0
    backlog: int = 512
    drain_timeout_s: float = 20.0
    socket_mode: int = 0o660
    sidecar_id: str = ""
    monitor: MonitorSettings = MonitorSettings()
    guard: GuardSettings = GuardSettings()

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigurationError("no model to serve: name at least one with --model")
        if not self.data:
            raise ConfigurationError("nowhere to answer predictions: name at least one address with --data")
        _check_watched(self.guard, self.monitor)
        _check_apart(self.state_dir, self.store)
        _check_local(self.data if self.shared_memory else ())
        for address in self.control:
            if not address.is_loopback:
                raise ConfigurationError(
                    f"--control {address}: deployment calls are not authenticated over TCP, so only a Unix socket or "
                    "a loopback address is accepted"
                )
        if self.http is not None and self.http.is_unix:
            raise ConfigurationError(
                f"--http {self.http} is a Unix socket: expected host:port, such as 127.0.0.1:8002"
            )
        if self.poll_interval_s < 0.01:
            raise ConfigurationError(f"--poll-interval is {self.poll_interval_s} s: expected at least 10ms")
        if self.load_timeout_s < 1:
            raise ConfigurationError(f"--load-timeout is {self.load_timeout_s:g} s: expected at least 1s")
        if self.load_memory_bytes is not None and self.load_memory_bytes < _LEAST_LOAD_MEMORY:
            raise ConfigurationError(
                f"--load-memory is {self.load_memory_bytes} bytes: expected at least {_LEAST_LOAD_MEMORY >> 20}MiB, "
                "with which a small version can be loaded"
            )
        for name, seconds in (("--max-queue-wait", self.max_queue_wait_s), ("--max-run", self.max_run_s)):
            if seconds <= 0:
                raise ConfigurationError(f"{name} is {seconds:g} s: expected more than 0")
        if not 1 <= self.max_message_bytes <= _GRPC_LARGEST:
            raise ConfigurationError(
                f"--max-message is {self.max_message_bytes} bytes: gRPC takes 1 to {_GRPC_LARGEST}"
            )

    @property
    def lanes(self) -> int:
        """How many predictions run at once: as told, or one per core that this process may use."""
        return self.threads or len(os.sched_getaffinity(0))


def _check_watched(guard: GuardSettings, monitor: MonitorSettings) -> None:
    """Refuse a guard that has nothing to judge by."""
    if guard.mode is not GuardMode.OFF and not monitor.enabled:
        raise ConfigurationError(
            f"--guard {guard.mode} cannot judge what --no-monitor does not let it see: leave one of them out"
        )


def _check_local(data: tuple[Address, ...]) -> None:
    """Refuse to share memory with callers elsewhere."""
    for address in data:
        if not address.is_loopback:
            raise ConfigurationError(
                f"--shared-memory with --data {address}: whoever reaches the data plane has the sidecar read and write shared "
                "memory of this machine, so only a Unix socket or a loopback address is accepted"
            )


def _check_apart(state_dir: Path | None, store: Path) -> None:
    """Refuse a directory of the sidecar's own that is the store, or one inside the other."""
    if state_dir is None:
        return
    # By their names alone: `Path.resolve` would look at a store that may hang.
    own, shared = (Path(os.path.abspath(each)) for each in (state_dir, store))  # noqa: PTH100 - see above
    if own == shared:
        found = "is"
    elif own.is_relative_to(shared):
        found = "lies inside"
    elif shared.is_relative_to(own):
        found = "contains"
    else:
        return
    raise ConfigurationError(
        f"--state-dir {own} {found} the --store {shared}: expected a directory of this sidecar's own, on this machine's "
        "disk and apart from the store; name another one"
    )


def parse_duration(text: str) -> float:
    """Seconds from '250ms', '1s', '5m', '2h'; ConfigurationError otherwise."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ConfigurationError(
            f"{text[:80]!r} is not a duration: expected a number with ms, s, m or h, such as 500ms"
        )
    seconds = float(match["count"]) * _SECONDS[match["unit"]]
    if seconds > _LONGEST_S:
        raise ConfigurationError(f"{text!r} is longer than a year: nothing waits that long")
    return seconds


def parse_size(text: str) -> int:
    """Bytes from '64MiB', '512KiB', '1048576'; ConfigurationError otherwise."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ConfigurationError(
            f"{text[:80]!r} is not a size: expected a number with B, KiB, MiB or GiB, such as 64MiB"
        )
    return int(match["count"]) * _BYTES[match["unit"]]


def parse_address(text: str) -> Address:
    """An address from 'unix:/path', 'unix:///path' or 'host:port'; ConfigurationError otherwise."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = "/" + path.lstrip("/") if path.startswith("/") else path
        if not path or "\0" in path:
            raise ConfigurationError(f"{text!r} names no socket: expected unix:/path/of.sock")
        if len(os.fsencode(path)) > _SUN_PATH_BYTES:
            raise ConfigurationError(
                f"socket path {path!r} is too long: the system takes {_SUN_PATH_BYTES} bytes"
            )
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ConfigurationError(
            f"{text[:200]!r} is not an address: expected unix:/path/of.sock or host:port"
        )
    return Address(host=host, port=int(port))
