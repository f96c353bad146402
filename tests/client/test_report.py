"""The page of quality and drift: what strangers named is text on it, and the plots show what the numbers say."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from model_sidecar_client import (
    DriftBin,
    DriftStream,
    GuardDecision,
    ModelDrift,
    ModelQuality,
    QualityMetric,
    Verdict,
    VersionDrift,
)
from model_sidecar_client.report.page import page
from model_sidecar_client.report.plots import evidence_bar, histogram, interval, scale_of

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
HOSTILE = "<script>alert('\u202egnp')</script>\x1b[2J"


def parsed(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)  # noqa: S314 - our own


def a_stream(name: str = "x", *, shares: tuple[float, ...] = (0.1, 0.2, 0.7)) -> DriftStream:
    return DriftStream(
        name=name,
        kind="feature",
        baseline_rows=20_000,
        rows=500,
        evidence_log10=7.0,
        direction="up",
        size=0.3,
        alarm=True,
        bins=tuple(
            DriftBin(label=f"<= {n}", baseline_share=1 / 3, share=each) for n, each in enumerate(shares)
        ),
    )


def a_drift(stream: DriftStream, **changes: object) -> ModelDrift:
    version = VersionDrift(
        version="2024.01.15.prod",
        manifest_sha256="",
        baseline_rows=20_000,
        band=0.05,
        rows=500,
        evidence_log10=7.0,
        threshold_log10=6.4,
        alarm_since=NOW,
        cause=stream.name,
        cause_kind="feature",
        summary=f"{stream.name} has moved up",
        streams=(stream,),
        notes=(f"note {stream.name}",),
    )
    decision = GuardDecision(
        time=NOW,
        decision="held",
        trigger=stream.name,
        version="2024.01.15.prod",
        target="",
        generation=0,
        evidence_log10=1.0,
        message=stream.name,
    )
    return ModelDrift(model="m", environment="prod", versions=(version,), guard="on", decisions=(decision,))


def a_metric(**changes: object) -> QualityMetric:
    fields: dict[str, object] = {
        "name": "accuracy",
        "value": 0.9,
        "lower": 0.88,
        "upper": 0.92,
        "baseline": 0.98,
        "estimated": False,
        "verdict": Verdict.BELOW,
    }
    return QualityMetric(**{**fields, **changes})  # type: ignore[arg-type]


def test_strangers_words_are_text() -> None:
    """Names, causes and messages cannot become markup, steer a terminal, or turn the writing direction."""
    text = page([], [a_drift(a_stream(HOSTILE))], made_at=NOW)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") >= 5


def test_an_empty_report_says_so() -> None:
    """Nothing watched yet is a page that says it, not an empty one."""
    assert "No version is watched yet" in page(
        [ModelQuality(model="m", environment="prod", versions=())], [], made_at=NOW
    )


@pytest.mark.parametrize("others", [0.0, 0.1])
def test_each_class_has_its_label(others: float) -> None:
    """Up to twelve classes are all named below their bars, other ones only where there were any."""
    names = [*map(str, range(10)), "a class of a long name"]
    bins = [DriftBin(label=each, baseline_share=0.1, share=0.1) for each in names]
    bins.append(DriftBin(label="other classes", baseline_share=0.0, share=others))
    stream = replace(a_stream("predicted class"), kind="class", bins=tuple(bins))
    text = page([], [a_drift(stream)], made_at=NOW)

    labels = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert labels[:11] == [*map(str, range(10)), "a …"]
    assert len(labels) == 11 + bool(others)
    assert ("other classes: 10.0% in the last hour" in text) is bool(others)
    assert ("other classes:" in text) is bool(others)


@pytest.mark.parametrize("alarm", [True, False])
def test_the_legend_tells_what_is_drawn(alarm: bool) -> None:
    """The colour of an alarm is explained where one is drawn, and only there."""
    stream = replace(a_stream(), alarm=alarm)
    assert ("last hour, alarm" in page([], [a_drift(stream)], made_at=NOW)) is alarm


def test_drift_without_a_baseline_is_not_known() -> None:
    """What cannot be compared is neither called drift nor no drift."""
    model = a_drift(a_stream())
    bare = replace(model.versions[0], baseline_rows=0, alarm_since=None, cause="", summary="no drift")
    text = page([], [replace(model, versions=(bare,))], made_at=NOW)
    assert "not known: no baseline" in text
    assert "no drift" not in text


def test_bars_are_as_high_as_shares() -> None:
    """The last hour's bars stand to each other as the shares do, and each bin tells itself."""
    drawn = parsed(histogram(a_stream(shares=(0.1, 0.2, 0.4)).bins, alarm=False))
    heights = [float(each.attrib["height"]) for each in drawn.iter("rect") if each.attrib["class"] == "now"]
    assert heights[1] / heights[0] == pytest.approx(2, abs=0.01)
    assert heights[2] / heights[0] == pytest.approx(4, abs=0.01)
    assert [each.text for each in drawn.iter("title")][
        2
    ] == "<= 2: 40.0% in the last hour, 33.3% in the baseline"


def test_a_histogram_of_nothing_can_be_drawn() -> None:
    """No rows yet, no bins at all, all in one bin: a picture each time."""
    for shares in ((), (0.0,), (0.0, 0.0, 0.0), (1.0,)):
        parsed(histogram(a_stream(shares=shares).bins, alarm=True))


def test_evidence_passes_its_mark() -> None:
    """The bar is shorter than the mark without an alarm, longer with one, and never leaves its picture."""
    for evidence, is_alarm in ((-3.0, False), (2.0, False), (6.5, True), (900.0, True)):
        drawn = parsed(evidence_bar(evidence, 6.4))
        bar = [each for each in drawn.iter("rect") if each.attrib["class"].startswith("now")]
        length = float(bar[0].attrib["width"]) if bar else 0.0
        (mark,) = drawn.iter("line")
        assert (length >= float(mark.attrib["x1"])) is is_alarm
        assert length <= 220


def test_an_interval_shows_value_bounds_and_baseline() -> None:
    """Left to right: bounds around the value, the mark of what was published where it is."""
    metric = a_metric()
    drawn = parsed(interval(metric, scale=scale_of(metric)))
    (box,), (dot,) = list(drawn.iter("rect")), list(drawn.iter("circle"))
    mark = list(drawn.iter("line"))[1]
    left, right = float(box.attrib["x"]), float(box.attrib["x"]) + float(box.attrib["width"])
    assert left < float(dot.attrib["cx"]) < right < float(mark.attrib["x1"])
    bare = a_metric(lower=None, upper=None, baseline=None, value=0.0)
    parsed(interval(bare, scale=scale_of(bare)))
