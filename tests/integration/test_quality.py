"""From a prediction to a verdict: a real sidecar, real feedback, and what operators and scrapers are told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from support.classifiers import A, B, classifying
from support.ports import free_port
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD

from model_sidecar_client import (
    AsyncOperator,
    Feedback,
    InvalidRequestError,
    NotFoundError,
    Verdict,
    VersionQuality,
)

T = TypeVar("T")


def until(look: Callable[[], T], good: Callable[[T], bool]) -> T:
    """What was seen once it was good: the monitor takes a second to look."""
    ends = time.monotonic() + 20
    while not good(seen := look()):
        assert time.monotonic() < ends, seen
        time.sleep(0.1)
    return seen


def quality_of(sidecar: RunningSidecar) -> VersionQuality | None:
    with sidecar.operator() as operator:
        (model,) = operator.quality(MODEL, environment=PROD)
    assert (model.model, model.environment) == (MODEL, PROD)
    return next(iter(model.versions), None)


def tell(sidecar: RunningSidecar, count: int, *, wrong: int) -> None:
    """Predict, and say what was true: one in `wrong` was wrong."""
    with sidecar.client() as client:
        ids = [client.predict(MODEL, {"raw": [[0.0, 1.0]]}).prediction_id for _ in range(count)]
        report = client.feedback_many(
            Feedback(prediction_id=each, truth=0 if n % wrong == 0 else "1") for n, each in enumerate(ids)
        )
    assert report.joined == count


def test_labels_become_a_verdict_an_alarm_and_a_memory(tmp_path: Path) -> None:
    """A version published with 0.9 is within at first, accused once half its predictions are wrong, and still after kill -9."""
    port = free_port()
    options = (A, "--state-dir", str(tmp_path / "state"), "--http", f"127.0.0.1:{port}")
    with serving(classifying(tmp_path), *options) as sidecar:
        tell(sidecar, 200, wrong=50)
        # Labels are joined at once, predictions are looked at once a second.
        seen = until(
            lambda: quality_of(sidecar),
            lambda each: each is not None and (each.labels, each.predictions) == (200, 200),
        )
        assert seen is not None
        assert (seen.version, seen.task, seen.predictions) == (A, "classification", 200)
        assert (seen.verdict, seen.alarm_since) == (Verdict.WITHIN, None)
        accuracy = next(each for each in seen.metrics if each.name == "accuracy")
        assert (accuracy.value, accuracy.baseline, accuracy.estimated) == (0.98, 0.9, False)

        tell(sidecar, 200, wrong=2)
        seen = until(
            lambda: quality_of(sidecar),
            lambda each: each is not None and each.labels == 400 and each.alarm_since is not None,
        )
        assert seen is not None
        assert seen.verdict is Verdict.BELOW
        assert seen.alarm_since is not None
        scraped = sidecar.http("/metrics", port=port)
        labels = f'environment="{PROD}",model="{MODEL}",version="{A}"'
        assert f"model_sidecar_quality_alarm{{{labels}}} 1.0" in scraped
        assert "predicts worse than it was published with" in sidecar.http("/statusz", port=port)
        with sidecar.operator() as operator:
            (drifted,) = operator.drift(MODEL, environment=PROD)
        assert drifted.guard == "off"

        sidecar.kill()
        sidecar.start().wait_ready()
        tell(sidecar, 1, wrong=2)
        seen = until(
            lambda: quality_of(sidecar),
            lambda each: each is not None and each.labels == 401 and each.alarm_since is not None,
        )
        assert seen is not None
        assert seen.alarm_since is not None


def test_awaited_and_refused(tmp_path: Path) -> None:
    """The asyncio operator asks the same; what is not there is an error of ours."""
    with serving(classifying(tmp_path), A) as sidecar:
        tell(sidecar, 40, wrong=50)
        until(lambda: quality_of(sidecar), lambda each: each is not None and each.labels == 40)

        async def ask() -> tuple[int, str]:
            async with AsyncOperator(sidecar.control) as operator:
                (rated,) = await operator.quality(window_s=3600)
                (drifted,) = await operator.drift()
                return rated.versions[0].labels, drifted.guard

        assert asyncio.run(ask()) == (40, "off")
        with sidecar.operator() as operator:
            with pytest.raises(NotFoundError, match="is not watched here"):
                operator.quality(MODEL, environment=PROD, version="2020.01.01.prod")
            with pytest.raises(NotFoundError):
                operator.drift("nobody")
            for window_s in (-1.0, 0.0, float("nan"), 1e300):
                with pytest.raises(InvalidRequestError):
                    operator.quality(MODEL, environment=PROD, window_s=window_s)


def test_without_a_monitor_nothing_is_known(tmp_path: Path) -> None:
    """--no-monitor: the calls answer, with no version."""
    with serving(classifying(tmp_path), A, "--no-monitor") as sidecar:
        with sidecar.client() as client:
            client.predict(MODEL, {"raw": [[0.0, 1.0]]})
        assert quality_of(sidecar) is None


def imported(sidecar: RunningSidecar) -> list[str]:
    """What a sidecar that tells of its imports has imported, in order."""
    told = (line for line in sidecar.log.read_text().splitlines() if line.startswith("import time:"))
    return [line.rpartition("|")[2].strip() for line in told]


def test_nothing_is_imported_while_callers_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import keeps everybody waiting while it runs: once a version answers, watching, looking and flipping need none."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    port = free_port()
    with serving(classifying(tmp_path), A, "--http", f"127.0.0.1:{port}") as sidecar:
        with sidecar.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD, reason="to be rolled back")
        before = imported(sidecar)
        assert "numpy" in before

        tell(sidecar, 40, wrong=2)
        until(lambda: quality_of(sidecar), lambda each: each is not None and each.predictions == 40)
        with sidecar.operator() as operator:
            operator.drift(MODEL, environment=PROD)
            operator.history(MODEL, environment=PROD)
            operator.rollback(MODEL, environment=PROD, reason="looked at")
        for page in ("/metrics", "/statusz"):
            assert sidecar.http(page, port=port)

        assert imported(sidecar)[len(before) :] == []
