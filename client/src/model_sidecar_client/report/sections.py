"""Quality, drift and decisions as pieces of a page. The sidecar's own status page is made of the same pieces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from model_sidecar_client.report.markup import Markup, tag, together
from model_sidecar_client.report.plots import evidence_bar, histogram, interval, scale_of
from model_sidecar_client.report.shapes import Bin, Decision, Drift, Metric, Quality, Stream

_COLOURS = {"within": "good", "below": "bad", "inconclusive": "plain"}
_DECIDED = {"rolled_back": "bad", "would_roll_back": "busy", "held": "plain", "failed": "bad"}
_SPEAKS_LOG10 = 0.5
"""With less evidence a stream says nothing, and stands below the others, folded away."""
_CLASSES, _OTHERS = "class", "other classes"
"""The stream of predicted classes, and its last bin: classes that the baseline did not have."""
_PLOTTED = 24
"""So many streams have a histogram, those with the most evidence."""


def quality_section(quality: Quality) -> Markup:
    """One version's metrics with bounds, beside what it was published with."""
    rows = [_metric_row(each) for each in quality.metrics]
    return tag(
        "div",
        tag(
            "h3",
            "Quality ",
            badge(_COLOURS.get(quality.verdict, "plain"), quality.verdict),
            tag("span", f" {quality.version}", css="quiet"),
        ),
        _alarm(quality.alarm_since, "It predicts worse than it was published with"),
        tag("p", quality.summary, css="summary"),
        _table(("metric", "value", "95 % bounds, mark: published", "bounds", "published", "verdict"), rows)
        if rows
        else None,
        tag(
            "p",
            f"{quality.labels:,} labels of {max(quality.predictions, quality.labels):,} predictions "
            f"({quality.coverage:.1%}), {_window(quality)}. Evidence that it has become worse: ",
            evidence_bar(quality.evidence_log10, quality.threshold_log10),
            " ",
            _power(quality.evidence_log10),
            ", an alarm from ",
            _power(quality.threshold_log10),
            " on.",
            css="quiet",
        ),
        css="quality",
    )


def drift_section(drift: Drift) -> Markup:
    """One version's drift: the cause, evidence by stream, and histograms beside the baseline's."""
    streams = sorted(drift.streams, key=lambda each: (not each.alarm, -each.evidence_log10))
    is_alarm = drift.alarm_since is not None
    speaking = [each for each in streams if each.alarm or each.evidence_log10 >= _SPEAKS_LOG10]
    silent = [each for each in streams if each not in speaking]
    plotted = [each for each in streams if len(each.bins) > 2][:_PLOTTED]
    left_out = sum(len(each.bins) > 2 for each in streams) - len(plotted)
    return tag(
        "div",
        tag(
            "h3",
            "Drift ",
            badge("bad" if is_alarm else "good" if drift.baseline_rows else "plain", _drift_word(drift)),
            tag("span", f" {drift.version}", css="quiet"),
        ),
        _alarm(drift.alarm_since, "What it sees or says has moved"),
        # Without a baseline "no drift" would claim what nobody can know.
        tag("p", drift.summary, css="summary")
        if drift.summary and (drift.baseline_rows or drift.cause)
        else None,
        *(tag("p", each, css="quiet") for each in drift.notes),
        tag(
            "p",
            "All streams together: ",
            evidence_bar(drift.evidence_log10, drift.threshold_log10),
            " ",
            _power(drift.evidence_log10),
            ", an alarm from ",
            _power(drift.threshold_log10),
            f" on. {drift.rows:,} rows in the last hour against {drift.baseline_rows:,} of the baseline; a share may differ by "
            f"{drift.band:.1%} before that counts.",
            css="quiet",
        ),
        _streams(speaking, drift.threshold_log10) if speaking else None,
        tag("div", *(_card(each) for each in plotted), css="cards") if plotted else None,
        legend(alarm=any(each.alarm for each in plotted)) if plotted else None,
        tag("p", f"{left_out} more streams with less evidence are not drawn.", css="quiet")
        if left_out
        else None,
        tag(
            "details",
            tag("summary", f"{len(silent)} streams that say nothing", css="quiet"),
            _streams(silent, drift.threshold_log10),
        )
        if silent
        else None,
        css="drift",
    )


def decisions_section(guard: str, decisions: Sequence[Decision]) -> Markup | None:
    """What the guard decided, newest first; None where it is off and never decided anything."""
    if guard == "off" and not decisions:
        return None
    rows = [
        tag(
            "tr",
            tag("td", f"{each.time.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if each.time else "", css="number"),
            tag("td", badge(_DECIDED.get(each.decision, "plain"), each.decision.replace("_", " "))),
            tag("td", each.trigger),
            tag("td", f"{each.version} → {each.target}" if each.target else each.version, css="number"),
            tag("td", _power(each.evidence_log10)),
            tag("td", each.message),
        )
        for each in decisions
    ]
    return tag(
        "div",
        tag("h3", "Guard ", badge("good" if guard == "on" else "plain", guard)),
        _table(("when (UTC)", "decision", "trigger", "from → to", "evidence", "why"), rows)
        if rows
        else tag("p", "It has not decided anything yet.", css="quiet"),
        css="guard",
    )


def legend(*, alarm: bool) -> Markup:
    """What the colours of the histograms mean; that of an alarm where one is drawn."""
    return tag(
        "p",
        tag("span", "", css="key then"),
        " baseline ",
        tag("span", "", css="key now"),
        " last hour ",
        tag("span", "", css="key now alarm") if alarm else None,
        " last hour, alarm" if alarm else None,
        css="quiet legend",
    )


def badge(colour: str, word: str) -> Markup:
    """A word in a coloured pill: "good", "bad", "busy" or "plain"."""
    return tag("span", word, css=f"badge {colour}")


def _metric_row(metric: Metric) -> Markup:
    bounds = (
        f"{metric.lower:.4g} to {metric.upper:.4g}"
        if metric.lower is not None and metric.upper is not None
        else ""
    )
    return tag(
        "tr",
        tag(
            "th",
            metric.name,
            tag("span", " estimate", css="quiet") if metric.estimated else None,
            scope="row",
        ),
        tag("td", f"{metric.value:.4g}", css="number"),
        tag("td", interval(metric, scale=scale_of(metric))),
        tag("td", bounds, css="number"),
        tag("td", "" if metric.baseline is None else f"{metric.baseline:.4g}", css="number"),
        tag(
            "td",
            None
            if metric.estimated or metric.baseline is None
            else badge(_COLOURS.get(metric.verdict, "plain"), metric.verdict),
        ),
    )


def _streams(streams: Sequence[Stream], threshold: float) -> Markup:
    # Most have none at all: what is drawn of so much evidence is drawn once.
    drawn = {
        evidence: (
            tag("td", evidence_bar(evidence, threshold)),
            tag("td", _power(evidence), css="number"),
        )
        for evidence in {each.evidence_log10 for each in streams}
    }
    return _table(
        ("stream", "kind", "evidence", "", "shows", "rows"),
        [_stream_row(each, *drawn[each.evidence_log10]) for each in streams],
    )


def _stream_row(stream: Stream, *evidence: Markup) -> Markup:
    shows = f"{stream.direction} {stream.size:.1%}" if stream.direction else ""
    return tag(
        "tr",
        tag("th", stream.name, scope="row"),
        tag("td", stream.kind),
        *evidence,
        tag("td", shows, " " if stream.alarm else None, badge("bad", "alarm") if stream.alarm else None),
        tag("td", f"{stream.rows:,}", css="number"),
    )


def _card(stream: Stream) -> Markup:
    moved = f"{stream.direction} {stream.size:.1%}" if stream.direction else ""
    return tag(
        "figure",
        tag("figcaption", tag("strong", stream.name), tag("span", f" {stream.kind} ", css="quiet"), moved),
        histogram(_drawn(stream), alarm=stream.alarm, each_labelled=stream.kind == _CLASSES),
        css="card alarm" if stream.alarm else "card",
    )


def _drawn(stream: Stream) -> Sequence[Bin]:
    """Its bins, without that of other classes where there were none."""
    *named, last = stream.bins
    is_empty = stream.kind == _CLASSES and not (last.share or last.baseline_share)
    return named if is_empty and last.label == _OTHERS else stream.bins


def _power(log10: float) -> Markup:
    return together(Markup("10"), tag("sup", f"{max(0.0, log10):.1f}"))


def _alarm(since: datetime | None, what: str) -> Markup | None:
    if since is None:
        return None
    return tag("p", f"{what}: alarm since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", css="notice bad")


def _drift_word(drift: Drift) -> str:
    if drift.alarm_since is not None:
        return "alarm"
    return "no alarm" if drift.baseline_rows else "not known: no baseline"


def _window(quality: Quality) -> str:
    if quality.window_start is None or quality.window_end is None:
        return "window unknown"
    start, end = (each.astimezone(UTC) for each in (quality.window_start, quality.window_end))
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def _table(columns: Sequence[str], rows: Sequence[Markup]) -> Markup:
    heads = tag("tr", *(tag("th", each, scope="col") for each in columns))
    return tag("div", tag("table", tag("thead", heads), tag("tbody", together(*rows))), css="wide")
