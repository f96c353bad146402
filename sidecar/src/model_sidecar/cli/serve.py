"""`model-sidecar serve`: run the sidecar until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from model_sidecar.app import endings
from model_sidecar.cli.exits import Exit, told
from model_sidecar.cli.options import Parsed, config_option, option
from model_sidecar.config import (
    GuardMode,
    GuardSettings,
    MonitorSettings,
    ServeSettings,
    StandbyPolicy,
    SwapMode,
    parse_address,
    parse_duration,
    parse_size,
)
from model_sidecar.errors import ConfigurationError
from model_sidecar.release.names import parse_environment, parse_model

_ADDRESS = Parsed("address", parse_address)
_DURATION = Parsed("duration", parse_duration)
_SIZE = Parsed("size", parse_size)
_SHARE = click.FloatRange(0.0, 1.0)


def parse_mode(text: str) -> int:
    """A file mode from octal digits; ConfigurationError otherwise."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigurationError(f"{text!r} is not a file mode: expected octal digits such as 0660")
    return mode


_MODE = Parsed("mode", parse_mode, numbers=False)


@click.command("serve")
@config_option
@option("--store", required=True, type=click.Path(path_type=Path), help="The directory of models.")
@option(
    "--model",
    "models",
    required=True,
    multiple=True,
    type=Parsed("name", parse_model),
    help="A model to serve; again for several.",
)
@option(
    "--environment", required=True, type=Parsed("name", parse_environment), help="Whose pointer to follow."
)
@option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory of this sidecar's own, made if it is not there: what it remembers of the ledger, copies of what "
    "answers, to start from while the store is away, and which versions did harm.",
)
@option(
    "--data",
    multiple=True,
    required=True,
    type=_ADDRESS,
    help="Where predictions are answered: unix:/path or host:port; again for several.",
)
@option(
    "--control",
    multiple=True,
    type=_ADDRESS,
    help="Where operators' calls and health are answered: unix:/path, or a loopback host:port; again for several.",
)
@option(
    "--http", type=_ADDRESS, help="Where /metrics, probes, the pointer and /statusz are served: host:port."
)
@option(
    "--standby",
    type=click.Choice([each.value for each in StandbyPolicy]),
    default=StandbyPolicy.RESIDENT.value,
    help="Whether the version before the live one stays in memory, to be rolled back to in milliseconds.",
)
@option(
    "--poll-interval",
    "poll_interval_s",
    type=_DURATION,
    default="1s",
    help="How often the store is looked at.",
)
@option(
    "--file-events/--no-file-events",
    default=True,
    help="Whether file events make the next look come sooner.",
)
@option(
    "--max-message", "max_message_bytes", type=_SIZE, default="64MiB", help="The largest request or answer."
)
@option(
    "--shared-memory",
    is_flag=True,
    help="Take and give tensors in system shared memory, too; what a request leaves there counts towards --max-message. --data "
    "has to be local, and its callers trusted with the shared memory of the sidecar's user.",
)
@option(
    "--allow-external-data",
    is_flag=True,
    help="Accept models whose weights lie in listed files of their own.",
)
@option(
    "--swap-mode",
    type=click.Choice([each.value for each in SwapMode]),
    default=SwapMode.OVERLAP.value,
    help="Where memory does not suffice for two versions: refuse the next, or let the standby and then the live one leave "
    "first (nothing answers until the next does).",
)
@option(
    "--load-timeout",
    "load_timeout_s",
    type=_DURATION,
    default="120s",
    help="How long loading and rehearsing a version may take; it is first tried in a process of its own.",
)
@option(
    "--load-memory",
    "load_memory_bytes",
    type=_SIZE,
    help="How much memory loading and rehearsing a version may take; by default, what is left.",
)
@option(
    "--threads", type=click.IntRange(min=0), default=0, help="Predictions that run at once; 0: one per core."
)
@option(
    "--max-batch-rows",
    type=click.IntRange(min=0, max=1024),
    default=64,
    help="The most rows that are run at once of requests that wait for a thread, where a version gains by it and answers "
    "each row the same; fewer where more do not make a row cheaper; 0 or 1: every request is run by itself.",
)
@option(
    "--max-inflight",
    type=click.IntRange(min=1),
    default=1024,
    help="Predictions taken on at once; one more is answered RESOURCE_EXHAUSTED.",
)
@option(
    "--max-queue-wait",
    "max_queue_wait_s",
    type=_DURATION,
    default="5s",
    help="How long a prediction may be expected to wait for a thread; with more, or more than its deadline leaves, it "
    "is answered RESOURCE_EXHAUSTED at once.",
)
@option(
    "--max-run",
    "max_run_s",
    type=_DURATION,
    default="60s",
    help="How long the model may work on one prediction, also for a caller without a deadline.",
)
@option(
    "--backlog",
    type=click.IntRange(min=1),
    default=512,
    help="Calls that may wait unread while the sidecar is busy; more are cut off by gRPC, with CANCELLED.",
)
@option(
    "--drain-timeout",
    "drain_timeout_s",
    type=_DURATION,
    default="20s",
    help="How long SIGTERM waits for answers.",
)
@option("--socket-mode", type=_MODE, default="0660", help="Mode of Unix sockets.")
@option(
    "--sidecar-id",
    default="",
    help="This sidecar's name in records; the host's name and process id by default.",
)
@option(
    "--monitor/--no-monitor",
    "monitor_enabled",
    default=True,
    help="Whether predictions are noted, for feedback, quality and drift.",
)
@option(
    "--log-sample",
    "monitor_log_sample",
    type=_SHARE,
    default=1.0,
    help="The share of predictions that the log keeps for feedback to find.",
)
@option(
    "--feature-sample",
    "monitor_feature_sample",
    type=_SHARE,
    default=0.01,
    help="The share of the kept predictions whose features are kept too.",
)
@option(
    "--log-size",
    "monitor_log_bytes",
    type=_SIZE,
    default="1GiB",
    help="How large the prediction log may become (in --state-dir; without one it is kept in memory, and is small).",
)
@option(
    "--drift-band",
    "monitor_drift_band",
    type=click.FloatRange(0.0, 0.5),
    default=0.05,
    help="By how much a share of a stream may differ from the baseline's before that counts.",
)
@option(
    "--drift-budget",
    "monitor_drift_budget_s",
    type=_DURATION,
    default="672h",
    help="At most one false drift alarm of a version in so long, on average, over all streams.",
)
@option(
    "--thin",
    "monitor_thin_s",
    type=_DURATION,
    default="60s",
    help="Rows with the same parameter monitor_key count once in so long.",
)
@option(
    "--stream-counters/--no-stream-counters",
    "monitor_stream_counters",
    default=False,
    help="Whether each bin of each stream is a Prometheus counter (hundreds of series).",
)
@option(
    "--guard",
    "guard_mode",
    type=click.Choice([each.value for each in GuardMode]),
    default=GuardMode.OFF.value,
    help="Whether a version that breaks is rolled back without being told to; dry-run only says when it would be.",
)
@option(
    "--shadow-sample",
    "guard_shadow_sample",
    type=_SHARE,
    default=0.05,
    help="The share of requests that the guard also runs on the standby, to compare.",
)
@option(
    "--guard-min-predictions",
    "guard_min_predictions",
    type=click.IntRange(min=10),
    default=100,
    help="How many predictions the guard must have seen.",
)
@option(
    "--guard-cooldown",
    "guard_cooldown_s",
    type=_DURATION,
    default="10m",
    help="How long after its last rollback the guard does not roll back again.",
)
@option(
    "--guard-max-disagreement",
    "guard_max_disagreement",
    type=_SHARE,
    default=0.3,
    help="The share of predictions that may differ from the previous version's.",
)
@option(
    "--guard-max-confidence-loss",
    "guard_max_confidence_loss",
    type=_SHARE,
    default=0.2,
    help="How far the mean confidence may lie below the previous version's on the same requests.",
)
@option(
    "--slo-errors",
    "guard_slo_errors",
    type=_SHARE,
    default=0.001,
    help="The share of predictions that may fail; the guard acts at 14.4 times that.",
)
@option(
    "--slo-latency",
    "guard_slo_latency_s",
    type=_DURATION,
    help="For one prediction in a hundred the model may take longer; the guard acts at 14.4 times that. By default it does not look.",
)
@option(
    "--log-format",
    type=click.Choice(["auto", "json", "text"]),
    default="auto",
    help="auto: text on a terminal.",
)
@option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least told.",
)
def command(log_format: str, log_level: str, **given: Any) -> None:
    """Serve the version that the active pointer names, and follow the pointer.

    Ends on SIGTERM or SIGINT: stops being ready, answers what is in flight, exits 0.
    """
    endings.block()  # first of all
    with told():
        monitor = MonitorSettings(**_taken(given, "monitor_"))
        guard = _taken(given, "guard_")
        settings = ServeSettings(
            **{
                **given,
                "standby": StandbyPolicy(given["standby"]),
                "swap_mode": SwapMode(given["swap_mode"]),
            },
            monitor=monitor,
            guard=GuardSettings(**{**guard, "mode": GuardMode(guard["mode"])}),
        )
        # Not at the top: this is what loads onnxruntime and grpc, and `--help` should not wait for them.
        from model_sidecar.app.serve import run

        run(settings, log_format=log_format, log_level=log_level)
        # Not by way of the interpreter's end, which would wait for threads that hang in a model or in the store.
        os._exit(Exit.DONE)


def _taken(given: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The options of one part, without their prefix; they are no longer among the given ones."""
    names = [name for name in given if name.startswith(prefix)]
    return {name.removeprefix(prefix): given.pop(name) for name in names}
