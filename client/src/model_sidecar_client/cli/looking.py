"""`status`, `history` and `versions`: what should answer, what does, how it came to be, and what else there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from model_sidecar_client.cli.documents import indented, one_line
from model_sidecar_client.cli.failures import Attempt, reported
from model_sidecar_client.cli.options import (
    F,
    Settings,
    config_option,
    control_option,
    option,
    output_option,
    settings,
    timeout_option,
)
from model_sidecar_client.cli.text import moment, printable, table

if TYPE_CHECKING:
    from model_sidecar_client.operator import Operator
    from model_sidecar_client.records import Record, ResidentVersion, Status, VersionSummary

_STATUS_HEAD = (
    "MODEL", "ENVIRONMENT", "STATE", "LIVE", "GENERATION", "DESIRED", "STANDBY", "EXECUTION", "LIVE SINCE"
)  # fmt: skip
_HISTORY_HEAD = ("GENERATION", "TIME", "ACTION", "VERSION", "PREVIOUS", "ACTOR", "FOR", "REASON", "COMMIT")
_VERSIONS_HEAD = ("VERSION", "STATE", "TRAINED", "DATA", "PREPROCESSING", "FRAMEWORK", "METRICS", "PROBLEM")


def looking_options(function: F) -> F:
    """The options of every command that only looks."""
    for add in (output_option(), timeout_option(), control_option(), config_option()):
        function = add(function)
    return function


@click.command(short_help="What should answer, and what does.")
@click.argument("model", required=False, default="")
@option("--environment", default="", help="Only this one.")
@option("--watch", is_flag=True, help="Print it again after every change, until interrupted.")
@looking_options
def status(model: str, environment: str, *, watch: bool, **_of_the_program: Any) -> None:
    """What should answer for MODEL, and what does; without MODEL, for every model of the sidecar.

    With --watch there is one model to follow: MODEL may be left out where the sidecar has no other.
    """
    chosen = settings()
    with operator_of(chosen) as operator, reported(Attempt(what="status", target_option="--control")):
        if watch:
            if not (model and environment):
                model, environment = _only_one(operator.status(model, environment=environment))
            _print_changes(operator.watch(model, environment=environment, timeout_s=chosen.timeout_s), chosen)
            return
        statuses = operator.status(model, environment=environment)
    if chosen.is_json:
        click.echo(indented({"statuses": statuses}))
        return
    for line in table([_STATUS_HEAD, *map(_status_row, statuses)]):
        click.echo(line)
    for each in statuses:
        _print_last_error(each)


@click.command(short_help="The ledger: who did what, when and why.")
@click.argument("model")
@option("--environment", required=True, help="Whose ledger.")
@option("-n", "--limit", type=click.IntRange(min=1), help="Only the newest N records.")
@looking_options
def history(model: str, environment: str, limit: int | None, **_of_the_program: Any) -> None:
    """The ledger of MODEL, newest record first: who did what, when and why."""
    chosen = settings()
    with operator_of(chosen) as operator, reported(Attempt(what="history", target_option="--control")):
        records = operator.history(model, environment=environment, limit=limit)
    if chosen.is_json:
        click.echo(indented({"records": records}))
        return
    for line in table([_HISTORY_HEAD, *map(_history_row, records)]):
        click.echo(line)


@click.command(short_help="The versions in the store.")
@click.argument("model")
@option("--environment", required=True, help="Whose live version and standby to mark.")
@looking_options
def versions(model: str, environment: str, **_of_the_program: Any) -> None:
    """The versions of MODEL in the store, newest name first."""
    chosen = settings()
    with operator_of(chosen) as operator, reported(Attempt(what="versions", target_option="--control")):
        summaries = operator.versions(model, environment=environment)
    if chosen.is_json:
        click.echo(indented({"versions": summaries}))
        return
    for line in table([_VERSIONS_HEAD, *map(_version_row, summaries)]):
        click.echo(line)


def operator_of(chosen: Settings) -> Operator:
    """An operator at the control socket of these settings, with their deadline."""
    from model_sidecar_client.operator import Operator

    return (
        Operator(chosen.control)
        if chosen.timeout_s is None
        else Operator(chosen.control, timeout_s=chosen.timeout_s)
    )


def _only_one(statuses: Sequence[Status]) -> tuple[str, str]:
    """The model and environment of the one status that there is; else a usage error that lists them."""
    there_are = [f"{each.model} --environment {each.environment}" for each in statuses]
    if len(there_are) != 1:
        raise click.UsageError(
            f"--watch follows one model, and there are {len(there_are)} here: name MODEL and --environment"
            + "".join(f"\n  {printable(each)}" for each in there_are)
        )
    return statuses[0].model, statuses[0].environment


def _print_changes(statuses: Iterable[Status], chosen: Settings) -> None:
    head: list[tuple[str, ...]] = [_STATUS_HEAD]
    for each in statuses:
        if chosen.is_json:
            click.echo(one_line(each))
            continue
        for line in table([*head, _status_row(each)]):
            click.echo(line)
        _print_last_error(each)
        head = []


def _status_row(each: Status) -> tuple[str, ...]:
    observed, desired = each.observed, each.desired
    return (
        each.model,
        each.environment,
        str(each.state),
        observed.version if observed else "",
        str(observed.generation) if observed and observed.generation else "",
        desired.version if desired else "",
        " ".join(resident.version for resident in each.resident if resident.role == "standby"),
        " ".join(_execution(resident) for resident in each.resident if resident.role == "live"),
        moment(each.live_since),
    )


def _execution(resident: ResidentVersion) -> str:
    rows = f", {resident.max_batch_rows} rows" if resident.max_batch_rows else ""
    return f"{resident.execution}{rows}"


def _print_last_error(each: Status) -> None:
    if each.unrecorded_version:
        which = f"{each.model} {each.environment}: the emergency rollback to {each.unrecorded_version}"
        click.echo(printable(f"{which} is in effect, and not recorded yet"), err=True)
    if each.last_error:
        error = each.last_error
        which = (
            f"{each.model} {each.environment}: last error{', with ' if error.version else ''}{error.version}"
        )
        click.echo(
            printable(f"{which} since {moment(error.since)}: {error.reason}: {error.message}"), err=True
        )


def _history_row(record: Record) -> tuple[str, ...]:
    return (
        str(record.generation),
        moment(record.timestamp),
        str(record.action),
        record.version,
        record.previous_version,
        record.actor.id,
        record.actor.on_behalf_of,
        record.reason,
        record.source_commit[:12],
    )


def _version_row(summary: VersionSummary) -> tuple[str, ...]:
    return (
        summary.version,
        summary.state,
        summary.training_date,
        summary.data_snapshot_id,
        summary.preprocessing_version,
        summary.framework,
        " ".join(f"{name}={value:g}" for name, value in sorted(summary.metrics.items())),
        summary.problem,
    )
