"""`deploy` and `rollback`: ask, act, and say what came of it."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from model_sidecar_client.cli.documents import indented
from model_sidecar_client.cli.failures import FAILED, Attempt, reported
from model_sidecar_client.cli.options import (
    F,
    Settings,
    config_option,
    control_option,
    duration,
    option,
    output_option,
    settings,
    timeout_option,
)
from model_sidecar_client.cli.text import printable

_PENDING = "PENDING"

if TYPE_CHECKING:
    from model_sidecar_client.operator import Operator
    from model_sidecar_client.records import Deployed, ShadowReport


def _action_options(function: F) -> F:
    """The options that deploy and rollback share."""
    for add in reversed(
        (
            option("--environment", required=True, help="Whose pointer moves."),
            option("--reason", default="", help="Why, for the ledger."),
            option("--yes", is_flag=True, help="Act without asking."),
            option("--dry-run", is_flag=True, help="Do every check, move nothing."),
            option(
                "--expected-generation",
                type=click.IntRange(min=0),
                help="Refuse unless the ledger's head is this generation (0: an empty ledger).",
            ),
            option("--request-id", help="Never done twice under one id; a new one if not given."),
            option(
                "--on-behalf-of", default="", also_from="CI_USER", help="For whom, as a claim for the ledger."
            ),
            option(
                "--source-commit", default="", also_from="GIT_COMMIT", help="From which commit, as a claim."
            ),
            config_option(),
            control_option(),
            timeout_option(),
            output_option(),
        )
    ):
        function = add(function)
    return function


@click.command(short_help="Make a version live.")
@click.argument("model")
@click.argument("version")
@option(
    "--allow-schema-change",
    is_flag=True,
    help="Accept inputs or outputs that differ from the live version's.",
)
@option(
    "--shadow",
    "shadow_s",
    type=duration,
    metavar="DURATION",
    help="Let it run on the live version's requests for so long first, such as 5m, and go on only within these limits:",
)
@option(
    "--shadow-max-disagreement",
    type=click.FloatRange(0.0, 1.0),
    help="The share of predictions that may differ; 0.05 if not given.",
)
@option(
    "--shadow-max-slowdown",
    type=click.FloatRange(0.0, min_open=True),
    help="How many times as long its median run may take; 2 if not given.",
)
@option(
    "--shadow-min-predictions",
    type=click.IntRange(min=1),
    help="How many predictions must have been compared to go on; 100 if not given. A clear failure ends the shadow earlier.",
)
@_action_options
def deploy(
    model: str,
    version: str,
    *,
    allow_schema_change: bool,
    shadow_s: float | None,
    shadow_max_disagreement: float | None,
    shadow_max_slowdown: float | None,
    shadow_min_predictions: int | None,
    **options: Any,
) -> None:
    """Make VERSION of MODEL live: verified, loaded and warmed first, then recorded, then swapped."""
    limits = (shadow_max_disagreement, shadow_max_slowdown, shadow_min_predictions)
    if shadow_s is None and any(limit is not None for limit in limits):
        raise click.UsageError("limits of a shadow without one: add --shadow, such as --shadow 5m")

    def act(operator: Operator, **how: Any) -> Deployed:
        from model_sidecar_client.records import Shadow

        shadow = None
        if shadow_s is not None:
            shadow = Shadow(
                duration_s=shadow_s,
                max_disagreement=shadow_max_disagreement,
                max_slowdown=shadow_max_slowdown,
                min_predictions=shadow_min_predictions,
            )
        return operator.deploy(model, version, allow_schema_change=allow_schema_change, shadow=shadow, **how)

    _act("deploy", model, f"deploy of {model} {version}", act, lambda _preview: version, **options)


@click.command(short_help="Make an earlier version live again.")
@click.argument("model")
@option(
    "--to",
    metavar="VERSION",
    help="Go back to this version; if not given, to the last good one that is not live.",
)
@option("--to-generation", type=click.IntRange(min=1), help="Go back to the version of this record.")
@option(
    "--emergency",
    is_flag=True,
    help="Should the store fail: go back to what is in memory all the same, and record it when the store is back.",
)
@_action_options
def rollback(
    model: str, to: str | None, to_generation: int | None, *, emergency: bool, **options: Any
) -> None:
    """Make an earlier version of MODEL live again; in milliseconds where it is the standby."""
    if to is not None and to_generation is not None:
        raise click.UsageError("--to and --to-generation exclude each other: name one target")

    def act(operator: Operator, **how: Any) -> Deployed:
        return operator.rollback(model, version=to, generation=to_generation, emergency=emergency, **how)

    def target(preview: Callable[[], Deployed]) -> str:
        return to or preview().version

    _act("rollback", model, f"rollback of {model}", act, target, **options)


def _act(
    verb: str,
    model: str,
    what: str,
    act: Callable[..., Deployed],
    target: Callable[[Callable[[], Deployed]], str],
    *,
    environment: str,
    reason: str,
    yes: bool,
    dry_run: bool,
    expected_generation: int | None,
    request_id: str | None,
    on_behalf_of: str,
    source_commit: str,
    **_of_the_program: Any,
) -> None:
    """Ask unless told not to, act, and print the outcome."""
    if not (yes or dry_run) and not _can_ask():
        raise click.UsageError(f"{verb} would have to ask, and there is no terminal to ask on: add --yes")
    from model_sidecar_client.operator import ACTION_TIMEOUT_S, Operator

    chosen = settings()
    timeout_s = chosen.timeout_s or ACTION_TIMEOUT_S
    look = f"sidecarctl --control {chosen.control} status {model} --environment {environment}"
    how = {
        "environment": environment,
        "reason": reason,
        "on_behalf_of": on_behalf_of,
        "source_commit": source_commit,
    }
    with Operator(chosen.control) as operator:
        if not (yes or dry_run):
            asking = Attempt(
                what=f"look before the {what} in {environment}", target_option="--control", look=look
            )
            with reported(asking):
                current, head = _head(operator, model, environment)
                towards = target(lambda: act(operator, validate_only=True, timeout_s=timeout_s, **how))
            _ask(f"{model} {environment}: {current} -> {towards}?")
            # What was agreed to is a move from what was shown: should somebody else come first, ask again.
            expected_generation = head if expected_generation is None else expected_generation
        attempt = Attempt(
            what=f"{what} in {environment}",
            target_option="--control",
            request_id="" if dry_run else request_id or str(uuid.uuid4()),
            look=look,
        )
        with reported(attempt):
            done = act(
                operator,
                expected_generation=expected_generation,
                request_id=attempt.request_id or request_id,
                validate_only=dry_run,
                timeout_s=timeout_s,
                **how,
            )
    _print_done(done, chosen, verb=verb, dry_run=dry_run)


def _can_ask() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _head(operator: Operator, model: str, environment: str) -> tuple[str, int]:
    """The version that should answer now, and its generation: from the ledger, for a pointer may be wrong."""
    for record in operator.history(model, environment=environment, limit=1):
        return record.version, record.generation
    return "none", 0


def _ask(question: str) -> None:
    if not click.confirm(printable(question), default=False, err=True):
        click.echo("sidecarctl: nothing was changed", err=True)
        raise click.exceptions.Exit(FAILED)


def _print_done(done: Deployed, chosen: Settings, *, verb: str, dry_run: bool) -> None:
    if chosen.is_json:
        click.echo(
            indented(
                {
                    "record": done.record,
                    "took_ms": done.took_ms,
                    "replayed": done.replayed,
                    "dry_run": dry_run,
                    **({"shadow": done.shadow} if done.shadow is not None else {}),
                }
            )
        )
        return
    if done.shadow is not None:
        click.echo(printable(_shadow_words(done.shadow)))
    did = {"deploy": "deployed", "rollback": "rolled back"}[verb]
    says = f"would have {did}" if dry_run else did
    where = f"{done.model} {done.environment}: {done.previous_version or 'none'} -> {done.version}"
    tail = "nothing was moved" if dry_run else f"generation {done.generation}  {done.took_ms:.1f} ms"
    if done.record.status == _PENDING:
        tail = f"{done.took_ms:.1f} ms  (not recorded yet: the sidecar does that when the store is back)"
    click.echo(
        printable(f"{says} {where}  {tail}" + "  (done before, under this request id)" * done.replayed)
    )


def _shadow_words(report: ShadowReport) -> str:
    told = (
        f"beside {report.against} for {report.seconds:.0f} s: {report.compared} compared, {report.disagreed} differ, "
        f"{report.failed} failed; median run {report.median_ms:.3g} ms against {report.against_median_ms:.3g} ms"
    )
    if not math.isnan(report.mean_confidence):
        told += f"; mean confidence {report.mean_confidence:.3f} against {report.against_mean_confidence:.3f}"
    return told
