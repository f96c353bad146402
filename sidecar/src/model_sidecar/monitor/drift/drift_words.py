"""A version's drift, said for people: each stream's shares and direction, the cause of an alarm in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_sidecar.monitor.detectors.evidence import weighted_each
from model_sidecar.monitor.drift.bands import is_blind, margin, widened
from model_sidecar.monitor.drift.drift_report import DriftBin, DriftStream, VersionDrift
from model_sidecar.monitor.drift.drift_watch import DriftWatch, Evidence
from model_sidecar.monitor.drift.parts import Parts
from model_sidecar.monitor.drift.streams import OUTPUT, Stream
from model_sidecar.release.baseline import ENOUGH_ROWS, MAX_FEATURES, StreamKind

_TELLING = math.log(10)
"""With less evidence than tenfold nothing is said of where it points: chance alone makes as much of some stream most of the
time."""
_VALUES = (StreamKind.FEATURE, StreamKind.SCORE, StreamKind.CONFIDENCE)


@dataclass(frozen=True, slots=True)
class _Tip:
    """Where one stream's evidence points most.

    Attributes:
        logarithm: of that side's evidence.
        label: the event in words.
        likely: the share of rows in it that the evidence speaks for.
        seen: the share of the last hour's rows; None where there were none.
        expected: the baseline's share.
        high: whether there are more of them than the band allows, not fewer.
    """

    logarithm: float
    label: str
    likely: float
    seen: float | None
    expected: float
    high: bool


def report(watch: DriftWatch, evidence: Evidence) -> VersionDrift:
    """A version's drift at one moment."""
    watched, streams = watch.watched, watch.streams.streams
    own = weighted_each(evidence.sides, evidence.weights, watch.bands.firsts(len(streams))).tolist()
    hour = tuple(evidence.hour.tolist())
    alarm = evidence.alarm_since is not None
    top = max(range(len(streams)), key=own.__getitem__)
    speaks = alarm or own[top] >= _TELLING
    # Where it points is asked of few: most streams have nothing to tell.
    tips = {
        at: _tip(watch, evidence, at)
        for at, logarithm in enumerate(own)
        if logarithm >= _TELLING or (speaks and at == top)
    }

    def told(at: int) -> DriftStream:
        stream, logarithm = streams[at], own[at]
        speaking, counts = logarithm >= _TELLING, hour[stream.first : stream.end]
        return DriftStream(
            name=stream.name,
            kind=stream.kind,
            baseline_rows=stream.rows,
            rows=sum(counts),
            evidence_log10=_log10(logarithm),
            direction=_direction(stream, tips[at]) if speaking else "",
            size=_size(tips[at], alarm=alarm) if speaking else 0.0,
            alarm=alarm and (at == top or logarithm >= evidence.threshold),
            bins=_bins(stream, counts),
        )

    rows = watched.baseline.rows if watched.baseline is not None else 0
    return VersionDrift(
        version=watched.version,
        manifest_sha256=watched.manifest,
        baseline_rows=rows,
        band=watch.band + (margin(rows) if rows else 0.0),
        rows=evidence.rows,
        evidence_log10=_log10(evidence.total),
        threshold_log10=evidence.threshold / math.log(10),
        alarm_since=evidence.alarm_since,
        cause=streams[top].name if speaks else "",
        cause_kind=streams[top].kind if speaks else None,
        summary=_summary(streams[top], tips[top], evidence) if speaks else _quiet(evidence),
        most_log10=_most(streams, own),
        streams=Parts(len(streams), told),
        notes=_notes(watch),
    )


def _tip(watch: DriftWatch, evidence: Evidence, at: int) -> _Tip:
    cells = np.flatnonzero(watch.bands.stream == at)
    if not len(cells):
        return _Tip(-math.inf, "", 0.0, None, 0.0, high=True)
    place, side = np.unravel_index(int(evidence.sides[cells].argmax()), (len(cells), 2))
    cell = cells[place]
    stream, bands = watch.streams.streams[at], watch.bands
    rows = int(evidence.hour[bands.of_first[cell] : bands.of_end[cell]].sum())
    return _Tip(
        logarithm=float(evidence.sides[cell, side]),
        label=stream.labels[int(watch.bands.end[cell]) - 1 - stream.first],
        likely=float(evidence.likely[cell, side]),
        seen=int(evidence.hour[bands.first[cell] : bands.end[cell]].sum()) / rows if rows else None,
        expected=float(watch.bands.share[cell]),
        high=bool(side == 0),
    )


def _direction(stream: Stream, tip: _Tip) -> str:
    if stream.kind in _VALUES:
        return "down" if tip.high else "up"  # more rows at or below a cut are smaller values
    return "more" if tip.high else "less"


def _size(tip: _Tip, *, alarm: bool) -> float:
    """Of an alarm by what its evidence speaks for: the hour before it would hide how far a share has gone since."""
    share = tip.likely if alarm or tip.seen is None else tip.seen
    return abs(share - tip.expected)


def _summary(stream: Stream, tip: _Tip, evidence: Evidence) -> str:
    alarm = evidence.alarm_since is not None
    now, then = f"about {tip.likely:.1%} of rows", f"{tip.expected:.1%} in the baseline"
    hour = f"{tip.seen:.1%} of the last hour's rows" if tip.seen is not None else "no rows in the last hour"
    if not alarm:
        now = hour
    match stream.kind:
        case StreamKind.FEATURE | StreamKind.SCORE | StreamKind.CONFIDENCE:
            said = (
                f"{_column_name(stream)} has moved {_direction(stream, tip)}: {now} are {tip.label}, {then}"
            )
        case StreamKind.CLASS:
            said = f"class {tip.label} is predicted {'more' if tip.high else 'less'} often: {now}, {then}"
        case StreamKind.NONFINITE:
            what = "an output" if stream.name == OUTPUT else _column_name(stream)
            said = f"{what} is NaN or infinite in {now}, {then}"
        case StreamKind.RANGE:
            said = f"{_column_name(stream)} is outside of what the baseline had, {stream.labels[0]}, in {now}"
        case StreamKind.CONSTANT:
            said = f"different inputs get the same answer: {now}, {then}"
    return f"{said} ({hour})" if alarm else f"no alarm; most evidence: {said}"


def _column_name(stream: Stream) -> str:
    outputs = (StreamKind.SCORE.value, StreamKind.CONFIDENCE.value)
    return (
        f"the {stream.name}"
        if stream.name in outputs and stream.kind is not StreamKind.FEATURE
        else f"feature {stream.name}"
    )


def _quiet(evidence: Evidence) -> str:
    return "no alarm; nothing to tell" if evidence.rows else "no rows yet"


def _most(streams: Sequence[Stream], own: Sequence[float]) -> dict[StreamKind, float]:
    most: dict[StreamKind, float] = {}
    for stream, logarithm in zip(streams, own, strict=True):
        most[stream.kind] = max(most.get(stream.kind, 0.0), _log10(logarithm))
    return most


def _bins(stream: Stream, hour: tuple[int, ...]) -> tuple[DriftBin, ...]:
    rows, baseline_rows = max(sum(hour), 1), max(stream.rows, 1)
    if stream.kind is not StreamKind.CONSTANT:
        return tuple(
            DriftBin(label=label, baseline_share=was / baseline_rows, share=now / rows)
            for label, was, now in zip(stream.labels, stream.reference, hour, strict=True)
        )
    share, was = max(hour) / rows, stream.reference[0] / baseline_rows
    return (
        DriftBin(label="the most common answers", baseline_share=was, share=share),
        DriftBin(
            label="others", baseline_share=1 - was if stream.rows else 0.0, share=sum(hour) / rows - share
        ),
    )


def _notes(watch: DriftWatch) -> tuple[str, ...]:
    baseline, notes = watch.watched.baseline, []
    if baseline is None:
        notes.append(
            "published without a baseline: only outputs that are not finite or all the same are watched; publish with "
            "--baseline-data"
        )
        return tuple(notes)
    if is_blind(baseline.rows, band=watch.band):
        notes.append(
            f"drift cannot be noticed with {baseline.rows} rows in the baseline, whose shares are known to "
            f"{margin(baseline.rows):.3f} only: publish with {ENOUGH_ROWS} rows or more"
        )
    elif baseline.rows < ENOUGH_ROWS:
        notes.append(
            f"the baseline has {baseline.rows} rows: with fewer than {ENOUGH_ROWS} the band is widened, by "
            f"{widened(baseline.rows):.3f}"
        )
    if len(watch.watched.features) > MAX_FEATURES:
        notes.append(
            f"the input has {len(watch.watched.features)} columns: {MAX_FEATURES} of them, evenly spaced, are watched"
        )
    if watch.streams.missing:
        some = ", ".join(watch.streams.missing[:3])
        notes.append(
            f"the baseline has {len(watch.streams.missing)} features that the input has not ({some})"
        )
    return tuple(notes)


def _log10(logarithm: float) -> float:
    return max(logarithm / math.log(10), 0.0)
