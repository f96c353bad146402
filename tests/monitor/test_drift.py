"""Drift: which fault is noticed and named, when the alarm ends, and what a watch costs."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from support.streams import CLASSIFIER, SITE, Classifier, Clock, readings, watched

from model_sidecar.config import MonitorSettings
from model_sidecar.events import Event, Released
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.drift.drift_report import VersionDrift
from model_sidecar.monitor.drift.drift_watch import DriftWatch, Evidence
from model_sidecar.monitor.drift.drift_words import report
from model_sidecar.monitor.drift.reference import baseline_of
from model_sidecar.monitor.drift.streams import Streams
from model_sidecar.monitor.readings import NOWHERE, Readings, Watched
from model_sidecar.release.baseline import StreamKind
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.names import Version
from model_sidecar.telemetry.event_log import EventLog

MODEL = Classifier()
BASELINE = MODEL.baseline()


class Traffic:
    """A version under watch, ten rows a second."""

    def __init__(
        self, of: Watched | None = None, settings: MonitorSettings | None = None, seed: int = 0
    ) -> None:
        self.watched = of or MODEL.watched(BASELINE)
        self.clock = Clock()
        self.told: list[Event] = []
        self.drift = Drift(settings or MonitorSettings(), clock=self.clock, on_event=self.told.append)
        self.chance = np.random.default_rng(seed)

    def healthy(self, count: int = 10) -> Readings:
        return MODEL.answered(MODEL.rows(self.chance, count))

    def goes_on(self, seconds: int, rows: Callable[[], Readings] | None = None) -> VersionDrift:
        """So many seconds of these rows, healthy ones unless told otherwise."""
        for _ in range(seconds):
            self.clock.now_s += 1
            self.drift.observe(self.watched, (rows or self.healthy)())
        (seen,) = self.drift.snapshot(SITE)
        return seen

    def until_alarm(self, rows: Callable[[], Readings], most: int = 3000) -> VersionDrift:
        for _ in range(most):
            seen = self.goes_on(1, rows)
            if seen.alarm_since is not None:
                return seen
        raise AssertionError(f"no alarm in {most} s: {seen.summary}")


def test_healthy_traffic_makes_no_alarm() -> None:
    """Half an hour of what the version was published with is no drift."""
    seen = Traffic().goes_on(1800)
    assert (seen.alarm_since, seen.rows, seen.baseline_rows) == (None, 18_000, 20_000)
    assert seen.evidence_log10 < 3 < seen.threshold_log10
    assert not any(stream.alarm for stream in seen.streams)


def test_a_missing_scaler_is_noticed_at_once_and_the_features_named() -> None:
    """Inputs that are not scaled any more make an alarm within seconds, whose cause is a feature."""
    traffic = Traffic()
    traffic.goes_on(60)
    seen = traffic.until_alarm(lambda: MODEL.answered(MODEL.rows(traffic.chance, 10) * 30 + 20), most=5)
    assert seen.cause in MODEL.names
    assert seen.cause_kind in (StreamKind.RANGE, StreamKind.FEATURE)
    assert seen.cause in seen.summary


def test_little_evidence_is_not_put_into_words() -> None:
    """Rows that are clean are never said to hold NaN, nor anything to have moved: there is nothing to tell."""
    traffic, told = Traffic(), set()
    for _ in range(300):
        seen = traffic.goes_on(1)
        if max(each.evidence_log10 for each in seen.streams) < 1:
            told.add(seen.summary)
            assert (seen.cause, seen.cause_kind) == ("", None)
        quiet = [each for each in seen.streams if each.evidence_log10 < 1]
        assert {(each.direction, each.size) for each in quiet} == {("", 0.0)}
        assert "NaN" not in seen.summary
    assert told == {"no alarm; nothing to tell"}


def test_without_an_alarm_the_shares_that_were_seen_are_told() -> None:
    """Some holes, too few for an alarm so far, are told as so many of the last hour's rows, not as what they might come to."""
    traffic = Traffic()
    traffic.goes_on(99)
    features = MODEL.rows(traffic.chance, 10)
    shown = features.copy()
    shown[:3, 3] = np.nan
    seen = traffic.goes_on(1, lambda: MODEL.answered(features, shown=shown))
    assert seen.alarm_since is None
    assert (seen.cause, seen.cause_kind) == ("f3", StreamKind.NONFINITE)
    assert (
        "feature f3 is NaN or infinite in 0.3% of the last hour's rows, 0.0% in the baseline" in seen.summary
    )
    (holes,) = [each for each in seen.streams if each.kind is StreamKind.NONFINITE and each.name == "f3"]
    assert holes.size == pytest.approx(0.003)


def test_one_feature_that_moves_is_named_with_its_direction() -> None:
    """A shift of one feature that leaves the score alone is that feature's, and upwards."""
    traffic = Traffic()

    def shifted() -> Readings:
        features = MODEL.rows(traffic.chance, 10)
        shown = features.copy()
        shown[:, 7] += 1.0
        return MODEL.answered(features, shown=shown)

    seen = traffic.until_alarm(shifted, most=60)
    assert (seen.cause, seen.cause_kind) == ("f7", StreamKind.FEATURE)
    (stream,) = [each for each in seen.streams if each.name == "f7" and each.kind is StreamKind.FEATURE]
    assert (stream.direction, stream.alarm) == ("up", True)
    assert 0.1 < stream.size < 0.6
    assert sum(each.share for each in stream.bins) == pytest.approx(1)
    assert sum(each.baseline_share for each in stream.bins) == pytest.approx(1)
    assert len(stream.bins) == 10
    assert [stream.bins[0], *stream.bins[1:]] == list(stream.bins)
    assert [each.name for each in seen.streams if each.alarm] == ["f7"]


def test_constant_answers_are_noticed_as_such() -> None:
    """The same answer to everything is called that."""
    traffic = Traffic()
    seen = traffic.until_alarm(lambda: MODEL.answered(MODEL.rows(traffic.chance, 10), constant=0.3), most=6)
    assert seen.cause_kind is StreamKind.CONSTANT
    assert "same answer" in seen.summary


def test_one_question_asked_over_and_over_is_no_constant_answer() -> None:
    """A probe that sends one request all day makes no alarm of constant answers, with or without a baseline."""
    for baseline in (BASELINE, None):
        traffic = Traffic(MODEL.watched(baseline))
        asked = np.repeat(MODEL.rows(np.random.default_rng(3), 1), 10, axis=0)
        traffic.goes_on(400, partial(MODEL.answered, asked))
        (seen,) = traffic.drift.snapshot(SITE)
        assert not [
            each for each in seen.streams if each.kind is StreamKind.CONSTANT and each.evidence_log10 > 3
        ]
        assert baseline is not None or seen.alarm_since is None


def test_holes_in_one_feature_are_named() -> None:
    """NaN in a fifth of one feature is that feature's hole, not a shift of it."""
    traffic = Traffic()

    def broken() -> Readings:
        features = MODEL.rows(traffic.chance, 10)
        shown = features.copy()
        shown[traffic.chance.random(10) < 0.2, 3] = np.nan
        return MODEL.answered(features, shown=shown)

    seen = traffic.until_alarm(broken, most=12)
    assert (seen.cause, seen.cause_kind) == ("f3", StreamKind.NONFINITE)


def test_a_version_without_a_baseline_is_watched_for_what_needs_none() -> None:
    """Outputs that are not finite, or all the same, are noticed also where nothing is known of good times."""
    nan = Traffic(MODEL.watched(None))
    nan.goes_on(100)
    holes = lambda: MODEL.answered(MODEL.rows(nan.chance, 10) * np.nan)  # noqa: E731 - the fault
    assert nan.until_alarm(holes, most=2).cause_kind is StreamKind.NONFINITE
    same = Traffic(MODEL.watched(None))
    constant = lambda: MODEL.answered(MODEL.rows(same.chance, 10), constant=0.3)  # noqa: E731 - the fault
    seen = same.until_alarm(constant, most=200)
    assert seen.cause_kind is StreamKind.CONSTANT
    assert "--baseline-data" in " ".join(seen.notes)


def test_a_discrete_feature_drifts_like_any_other() -> None:
    """A flag that was set in one row of ten and is in half of them is noticed."""
    chance = np.random.default_rng(8)

    def flags(share: float, rows: int) -> Readings:
        return readings((chance.random((rows, 1)) < share).astype(np.float64))

    of = watched(("flag",), baseline_of(flags(0.1, 20_000), ("flag",), task="none"), roles=OutputRoles())
    traffic = Traffic(of)
    assert traffic.goes_on(600, lambda: flags(0.1, 10)).alarm_since is None
    seen = traffic.until_alarm(lambda: flags(0.5, 10), most=30)
    assert (seen.cause, seen.cause_kind) == ("flag", StreamKind.FEATURE)
    assert "up" in seen.summary


def test_an_alarm_stays_until_enough_rows_are_back_within_the_band() -> None:
    """The evidence freezes with the alarm; ten minutes of good rows end it, and a few do not."""
    traffic = Traffic()
    bad = lambda: MODEL.answered(MODEL.rows(traffic.chance, 10), shift=2.0)  # noqa: E731 - the fault
    first = traffic.until_alarm(bad)
    still = traffic.goes_on(900, bad)
    assert still.alarm_since == first.alarm_since
    assert still.evidence_log10 == first.evidence_log10
    assert traffic.goes_on(120).alarm_since == first.alarm_since
    over = traffic.goes_on(1200)
    assert over.alarm_since is None
    assert over.evidence_log10 < 3


def test_the_beginning_and_the_end_of_an_alarm_are_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever has only the log finds the alarm as an error with its cause, once, and its end."""
    traffic = Traffic()
    seen = traffic.until_alarm(lambda: MODEL.answered(MODEL.rows(traffic.chance, 10) * 30 + 20), most=5)
    traffic.goes_on(1200)
    with caplog.at_level(logging.INFO):
        for event in traffic.told:
            EventLog().on_event(event)

    began, ended = caplog.records
    assert (began.levelno, ended.levelno) == (logging.ERROR, logging.INFO)
    assert began.getMessage().endswith(f"has left what it was published with: {seen.summary}")
    facts = vars(began)
    assert (facts["event"], vars(ended)["event"]) == ("drift-alarm", "drift-alarm-ended")
    assert (facts["cause"], facts["rows"]) == (seen.cause, seen.rows)


def test_rows_that_depend_on_one_another_are_thinned_by_their_key() -> None:
    """Sessions of rows that are alike alarm falsely, unless a key says which rows belong together."""

    def alarms(*, keyed: bool) -> int:
        found = 0
        for seed in range(4):
            chance = np.random.default_rng(seed)
            of = watched(("x",), baseline_of(readings(chance.normal(size=(20_000, 1))), ("x",), task="none"))
            watch = Traffic(of, MonitorSettings(drift_budget_s=300))
            value = chance.normal()
            for session in range(1, 301):
                rows = np.empty((10, 1))
                for at in range(10):
                    value = 0.9 * value + np.sqrt(1 - 0.81) * chance.normal()
                    rows[at] = value
                keys = np.full(10, session if keyed else 0)
                seen = watch.goes_on(1, partial(readings, rows, keys=keys))
            found += seen.alarm_since is not None
        return found

    assert alarms(keyed=False) >= 3
    assert alarms(keyed=True) == 0


def test_seconds_without_rows_are_no_ticks() -> None:
    """A pause, however long, is evidence of nothing."""
    traffic = Traffic()
    before = traffic.goes_on(50)
    for _ in range(100):
        traffic.clock.now_s += 1000
        traffic.drift.observe(traffic.watched, traffic.healthy(0))
    (after,) = traffic.drift.snapshot(SITE)
    assert after.evidence_log10 == before.evidence_log10


def test_a_watch_of_the_widest_version_fits_in_128_kib() -> None:
    """Sixty-four features and more classes than have a name: all arrays together, before and after a million rows."""
    chance = np.random.default_rng(0)
    names = tuple(f"f{index}" for index in range(256))
    rows = readings(
        chance.normal(size=(2000, 256)),
        chance.integers(50, size=2000).astype(np.float64),
        chance.random(2000),
        chance.random(2000),
    )
    watch = DriftWatch(
        watched(names, baseline_of(rows, names, task="classification")),
        band=0.05,
        budget_s=2.4e6,
        thin_s=60.0,
    )
    before = watch.nbytes
    clock = Clock()
    drift = Drift(MonitorSettings(), clock=clock)
    for _ in range(20):
        clock.now_s += 1
        drift.observe(watch.watched, replace(rows, keys=chance.integers(1, 2**60, size=2000)))
    (held,) = drift._watches.values()
    assert held.nbytes == before <= 128 << 10


def test_each_identity_is_a_version_of_its_own_and_leaves_with_it() -> None:
    """Two manifests of one name are watched apart, the newer first; what is not resident any more is forgotten."""
    traffic = Traffic()
    traffic.goes_on(1)
    other = replace(traffic.watched, manifest=watched((), None, name="b").manifest)
    traffic.drift.observe(other, traffic.healthy())
    manifests = [each.manifest_sha256 for each in traffic.drift.snapshot(SITE)]
    assert manifests == [other.manifest, traffic.watched.manifest]
    traffic.drift.on_event(Released(SITE, traffic.watched.version, traffic.watched.manifest))
    traffic.drift.observe(traffic.watched, traffic.healthy())  # read before it left, shown after
    assert [each.manifest_sha256 for each in traffic.drift.snapshot(SITE)] == [other.manifest]


def test_a_sidecar_that_releases_versions_for_years_keeps_no_more_of_them() -> None:
    """Of ten thousand released versions less is kept than a watch takes; the last of them are still known to be gone."""
    traffic = Traffic()
    released = [replace(traffic.watched, manifest=digest_of(b"%d" % number)) for number in range(10_000)]
    for each in released:
        traffic.drift.on_event(Released(SITE, each.version, each.manifest))
    traffic.drift.observe(released[-1], traffic.healthy())
    assert traffic.drift.snapshot(SITE) == ()
    assert len(traffic.drift._gone) <= 1024


def test_versions_that_are_only_told_of_end_no_alarm_of_the_live_one() -> None:
    """Whoever tells of predictions of a hundred other versions leaves the live one its alarm; of those told, 64 are kept."""
    traffic = Traffic()
    traffic.until_alarm(lambda: MODEL.answered(MODEL.rows(traffic.chance, 10) * 30 + 20), most=5)
    for number in range(100):
        version = Version(f"20{number:02}.01.10.prod")
        told = replace(traffic.watched, version=version, manifest=NOWHERE, features=(), baseline=None)
        traffic.drift.observe(told, replace(traffic.healthy(1), features=np.empty((1, 0))))
    seen = traffic.drift.snapshot(SITE)
    assert len(seen) == 65
    assert seen[-1].manifest_sha256 == traffic.watched.manifest
    assert seen[-1].alarm_since is not None


def test_a_report_that_fails_costs_no_other_versions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the version whose report fails it is said so, with its rows; the other's is told, and the log says it once."""
    traffic = Traffic()
    traffic.goes_on(2)
    other = replace(traffic.watched, manifest=digest_of(b"other"))
    traffic.drift.observe(other, traffic.healthy())

    def failing(watch: DriftWatch, evidence: Evidence) -> VersionDrift:
        if watch.watched is other:
            return report(watch, evidence)
        raise KeyError

    monkeypatch.setattr("model_sidecar.monitor.drift.drift.report", failing)
    for _ in range(3):
        told, failed = traffic.drift.snapshot(SITE)
    assert (told.rows, len(told.streams) > 0) == (10, True)
    assert (failed.rows, failed.streams) == (20, ())
    assert "cannot be told here: KeyError" in failed.summary
    assert caplog.text.count("the drift of") == 1


def test_what_limits_the_watch_is_told() -> None:
    """A small baseline, columns beyond sixty-four and features that are not there any more stand in the notes."""
    wide = tuple(f"f{index}" for index in range(100))
    chance = np.random.default_rng(0)
    small = baseline_of(readings(chance.normal(size=(500, 100))), wide, task="none")
    drift = Drift(MonitorSettings())
    drift.observe(watched(wide[1:], small, roles=CLASSIFIER), readings(chance.normal(size=(5, 99))))
    (seen,) = drift.snapshot(SITE)
    notes = " ".join(seen.notes)
    assert "500 rows" in notes
    assert "99 columns" in notes
    assert "1 features that the input has not (f0)" in notes
    assert seen.band > 0.05 + 0.08


def test_a_baseline_that_cannot_tell_drift_is_told() -> None:
    """Of fifteen rows nobody knows shares well enough: the notes say that, not how wide the band is."""
    (note,) = Traffic(MODEL.watched(MODEL.baseline(15))).goes_on(1).notes
    assert note.startswith("drift cannot be noticed with 15 rows")


def test_counters_only_grow_and_snapshots_may_be_taken_meanwhile() -> None:
    """Threads that look while rows come in see whole counts, each at least as large as before."""
    traffic = Traffic()
    traffic.goes_on(1)
    ended, seen = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            (totals,) = traffic.drift.totals(SITE)
            seen.append(int(totals.counts.sum()))
            traffic.drift.snapshot(SITE)

    looking = threading.Thread(target=look)
    looking.start()
    traffic.goes_on(100)
    ended.set()
    looking.join()
    assert seen == sorted(seen)
    (totals,) = traffic.drift.totals(SITE)
    score = next(each for each in totals.streams if each.kind is StreamKind.SCORE)
    assert totals.counts[score.first : score.end].sum() == 1010


def test_the_garbage_collector_need_not_look_at_what_a_version_is_compared_with() -> None:
    """Baseline, streams and a report are unknown to it: it lets nobody in while it looks, and they are a thousand objects."""
    traffic = Traffic()
    seen = tuple(traffic.goes_on(1).streams)
    streams = Streams(traffic.watched).streams
    gc.collect()  # by then it has found out of a tuple that nothing in it need be known
    kept = [BASELINE.streams, streams, seen, *BASELINE.streams, *streams, *seen]
    kept += [part for each in seen for part in (each.bins, *each.bins)]
    assert not [each for each in kept if gc.is_tracked(each)]
