"""Bands: how far each share may go, and what each kind's evidence counts for."""

from __future__ import annotations

import numpy as np
import pytest
from support.streams import Classifier

from model_sidecar.monitor.drift.bands import Bands, margin, watching, widened
from model_sidecar.monitor.drift.streams import Streams
from model_sidecar.release.baseline import ENOUGH_ROWS, StreamKind

MODEL = Classifier(4)


def bands(rows: int) -> tuple[Streams, Bands, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    streams = Streams(MODEL.watched(MODEL.baseline(rows)))
    made, detector = watching(streams, band=0.05)
    return streams, made, detector.weights


def test_the_fewer_rows_the_wider_the_band() -> None:
    """Shares may differ by the band and by what their baseline does not know of them, on both sides."""
    for rows, known_to in ((1000, 0.062), (5000, 0.028), (20_000, 0.014)):
        assert margin(rows) == pytest.approx(known_to, abs=5e-4)
        streams, made, _ = bands(rows)
        scores = [streams.streams[at].kind is StreamKind.SCORE for at in made.stream]
        assert made.high[scores] - made.share[scores] == pytest.approx(0.05 + margin(rows), abs=1e-6)
        assert made.share[scores] - made.low[scores] == pytest.approx(0.05 + margin(rows), abs=1e-6)
    assert widened(ENOUGH_ROWS) == widened(10**9) == 0


def test_what_never_happens_may_happen_next_to_never() -> None:
    """Holes and values out of range have a band of a tenth of a per cent, and what so many rows cannot exclude."""
    streams, made, _ = bands(20_000)
    for kind, most in ((StreamKind.NONFINITE, 0.0014), (StreamKind.RANGE, 0.0015)):
        highs = made.high[[streams.streams[at].kind is kind for at in made.stream]]
        assert ((highs > 0.001) & (highs < most)).all()


def test_no_kind_of_stream_takes_all_the_attention() -> None:
    """The kinds share the false alarms that are allowed, however many streams each has."""
    streams, made, weights = bands(20_000)
    kinds = np.array([streams.streams[at].kind.value for at in made.stream])
    shares = {kind: float(weights[kinds == kind].sum()) for kind in set(kinds)}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["feature"] == pytest.approx(shares["score"], rel=0.01)
    assert min(shares.values()) > 0.05
