"""`quality` and `drift`: how well versions predict, how far they have moved, and an exit code for what may not be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_sidecar_client.cli.documents import indented
from model_sidecar_client.cli.failures import FAILED, FOUND, Attempt, reported
from model_sidecar_client.cli.looking import looking_options, operator_of
from model_sidecar_client.cli.options import F, duration, option, settings
from model_sidecar_client.cli.text import moment, printable, table

if TYPE_CHECKING:
    from model_sidecar_client.monitoring_records import (
        ModelDrift,
        ModelQuality,
        QualityMetric,
        VersionDrift,
        VersionQuality,
    )

_METRICS_HEAD = ("METRIC", "VALUE", "LOWER", "UPPER", "PUBLISHED", "VERDICT")
_STREAMS_HEAD = ("STREAM", "KIND", "EVIDENCE", "SHOWS", "ROWS", "ALARM")
_GUARD_HEAD = ("TIME", "DECISION", "TRIGGER", "FROM", "TO", "EVIDENCE", "WHY")
_MOST_STREAMS = 12


def _watching_options(function: F) -> F:
    for add in reversed(
        (
            option("--environment", required=True, help="Whose versions."),
            option("--version", default="", help="Only this one."),
            option(
                "--html",
                metavar="FILE",
                type=click.Path(dir_okay=False, writable=True, path_type=Path),
                help="Write one page with plots, of quality and drift, without scripts; what was there is replaced.",
            ),
        )
    ):
        function = add(function)
    return looking_options(function)


@click.command(short_help="How well versions predict, beside what was published.")
@click.argument("model")
@option(
    "--window",
    type=duration,
    metavar="DURATION",
    help="Of predictions made so long ago or later, by whole hours: 10m is the current hour (UTC), and the one before "
    "where ten minutes ago lie in it; more than 24h is everything since the start. 24h if not given.",
)
@option(
    "--fail-on",
    type=click.Choice(["alarm", "below", "inconclusive"]),
    help="Exit with 6 where a version has an alarm; is below what was published; or is not known to be within.",
)
@_watching_options
def quality(
    model: str,
    environment: str,
    version: str,
    *,
    window: float | None,
    html: Path | None,
    fail_on: str | None,
    **_of_the_program: Any,
) -> None:
    """How well MODEL's versions predict, by the labels so far, beside what they were published with."""
    chosen = settings()
    with operator_of(chosen) as operator, reported(Attempt(what="quality", target_option="--control")):
        found = operator.quality(model, environment=environment, version=version, window_s=window)
        drifted = operator.drift(model, environment=environment) if html else []
    if html:
        _write_page(html, found, drifted)
    if chosen.is_json:
        click.echo(indented({"quality": found}))
    else:
        for each in found:
            _print_quality(each)
    _end([each for one in found for each in one.versions], fail_on, _quality_is)


@click.command(short_help="How far versions have moved from what was published.")
@click.argument("model")
@option(
    "--fail-on",
    type=click.Choice(["alarm", "inconclusive"]),
    help="Exit with 6 where a version has an alarm; or where it has no baseline to compare with, or no rows.",
)
@_watching_options
def drift(
    model: str, environment: str, version: str, html: Path | None, fail_on: str | None, **_of_the_program: Any
) -> None:
    """How far what MODEL's versions see and say has moved from their baselines, and what the guard decided."""
    chosen = settings()
    with operator_of(chosen) as operator, reported(Attempt(what="drift", target_option="--control")):
        found = operator.drift(model, environment=environment, version=version)
        rated = operator.quality(model, environment=environment) if html else []
    if html:
        _write_page(html, rated, found)
    if chosen.is_json:
        click.echo(indented({"drift": found}))
    else:
        for each in found:
            _print_drift(each)
    _end([each for one in found for each in one.versions], fail_on, _drift_is)


def _quality_is(version: VersionQuality, what: str) -> bool:
    is_alarm = version.alarm_since is not None
    is_below = is_alarm or version.verdict == "below"
    return {"alarm": is_alarm, "below": is_below, "inconclusive": version.verdict != "within"}[what]


def _drift_is(version: VersionDrift, what: str) -> bool:
    is_alarm = version.alarm_since is not None
    return is_alarm or (what == "inconclusive" and not (version.baseline_rows and version.rows))


def _end(versions: list[Any], fail_on: str | None, is_so: Callable[[Any, str], bool]) -> None:
    """Exit with 6 where one of them is what may not be; nobody watched is inconclusive."""
    if fail_on is None:
        return
    met = [each.version for each in versions if is_so(each, fail_on)]
    if not versions and fail_on == "inconclusive":
        met = ["no version is watched"]
    if met:
        click.echo(printable(f"sidecarctl: --fail-on {fail_on} is met: {', '.join(met)}"), err=True)
        raise click.exceptions.Exit(FOUND)


def _write_page(path: Path, quality: list[ModelQuality], drift: list[ModelDrift]) -> None:
    from model_sidecar_client.report.page import page

    try:
        path.write_text(page(quality, drift, made_at=datetime.now(UTC)), encoding="utf-8")
    except OSError as error:
        click.echo(printable(f"sidecarctl: cannot write {path}: {error.strerror}"), err=True)
        raise click.exceptions.Exit(FAILED) from error
    click.echo(printable(f"wrote {path}"), err=True)


def _print_quality(model: ModelQuality) -> None:
    for each in model.versions:
        since = f" since {moment(each.alarm_since)}" if each.alarm_since else ""
        _say(
            f"{model.model} {model.environment} {each.version}: {each.verdict.upper()}{' ALARM' if since else ''}{since}"
        )
        _say(f"  {each.summary}")
        if each.metrics:
            _print_indented([_METRICS_HEAD, *map(_metric_row, each.metrics)])
        _say(
            f"  predictions {each.predictions}  labels {each.labels}  coverage {each.coverage:.1%}  "
            f"since {moment(each.window_start)}  evidence {max(0.0, each.evidence_log10):.1f} of {each.threshold_log10:.1f}"
        )
    if not model.versions:
        _say(f"{model.model} {model.environment}: no version is watched yet")


def _print_drift(model: ModelDrift) -> None:
    for each in model.versions:
        calm = "no alarm" if each.baseline_rows else "not known: no baseline"
        alarm = f"ALARM since {moment(each.alarm_since)}" if each.alarm_since else calm
        _say(f"{model.model} {model.environment} {each.version}: {alarm}")
        # Without a baseline "no drift" would claim what nobody can know; the notes say so.
        for line in (each.summary if each.baseline_rows or each.cause else "", *each.notes):
            _say(f"  {line}" if line else "")
        streams = sorted(each.streams, key=lambda one: (not one.alarm, -one.evidence_log10))
        if streams:
            rows = [
                (
                    one.name,
                    one.kind,
                    f"{max(0.0, one.evidence_log10):.1f}",
                    f"{one.direction} {one.size:.1%}" if one.direction else "",
                    str(one.rows),
                    "alarm" if one.alarm else "",
                )
                for one in streams[:_MOST_STREAMS]
            ]
            _print_indented([_STREAMS_HEAD, *rows])
        if len(streams) > _MOST_STREAMS:
            _say(f"  and {len(streams) - _MOST_STREAMS} streams with less evidence: -o json has all")
        _say(
            f"  rows {each.rows} of the last hour, {each.baseline_rows} of the baseline  band {each.band:.1%}  "
            f"evidence {max(0.0, each.evidence_log10):.1f} of {each.threshold_log10:.1f}"
        )
    if not model.versions:
        _say(f"{model.model} {model.environment}: no version is watched yet")
    _say(f"guard: {model.guard}")
    if model.decisions:
        _print_indented(
            [
                _GUARD_HEAD,
                *(
                    (
                        moment(one.time),
                        one.decision,
                        one.trigger,
                        one.version,
                        one.target,
                        f"{one.evidence_log10:.1f}",
                        one.message,
                    )
                    for one in model.decisions
                ),
            ]
        )


def _metric_row(metric: QualityMetric) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    return (
        metric.name,
        number(metric.value),
        number(metric.lower),
        number(metric.upper),
        number(metric.baseline),
        _verdict(metric),
    )


def _verdict(metric: QualityMetric) -> str:
    if metric.estimated:
        return "estimate, without labels"
    # With nothing published there is nothing that it could be within.
    return "" if metric.baseline is None else str(metric.verdict)


def _print_indented(rows: Iterable[tuple[str, ...]]) -> None:
    for line in table(list(rows)):
        click.echo(f"  {line}")


def _say(line: str) -> None:
    if line:
        click.echo(printable(line))
