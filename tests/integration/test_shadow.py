"""Deploys with a shadow, with real sidecars, models and requests: what is good enough goes on, what is not is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from support.guarded import A, B, C, ask_until, contrary, head, picky, rootless, sensible, slow
from support.shell import as_started
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import AsyncOperator, RefusedError, Shadow

pytestmark = pytest.mark.timeout(180)

BRIEF = Shadow(duration_s=4, min_predictions=20, max_slowdown=20)
LONG = Shadow(duration_s=600, min_predictions=20)


@contextmanager
def traffic(sidecar: RunningSidecar) -> Iterator[None]:
    """One caller who never stops asking."""
    over = threading.Event()
    caller = threading.Thread(target=ask_until, args=(sidecar, over.is_set), kwargs={"for_s": 120})
    caller.start()
    try:
        yield
    finally:
        over.set()
        caller.join()


@pytest.fixture
def sidecar(yard: Yard) -> Iterator[RunningSidecar]:
    """A sidecar on which a sensible version answers a caller."""
    yard.put(A, sensible())
    with serving(yard, A) as running, traffic(running):
        yield running


def test_a_candidate_that_is_of_the_same_mind_goes_live_with_its_report(
    yard: Yard, sidecar: RunningSidecar
) -> None:
    """The report says with what it was compared, on how much, and how quick both are; then it answers."""
    yard.put(B, sensible(2.2))
    with sidecar.operator() as operator:
        done = operator.deploy(MODEL, B, environment=PROD, shadow=BRIEF, timeout_s=30)

    assert done.shadow is not None
    assert done.shadow.against == A
    assert done.shadow.compared >= 20
    assert (done.shadow.disagreed, done.shadow.failed) == (0, 0)
    assert min(done.shadow.median_ms, done.shadow.against_median_ms, done.shadow.mean_confidence) > 0
    assert done.shadow.seconds >= 4
    assert sidecar.predict()[1] == B


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        pytest.param(contrary(), "of its predictions differ", id="another opinion"),
        pytest.param(rootless(), "it answered NaN or infinity", id="NaN for some inputs"),
        pytest.param(picky(), "failed on a request", id="fails for some inputs"),
    ],
)
def test_a_candidate_that_is_beyond_a_limit_is_refused_as_soon_as_that_is_known(
    yard: Yard, sidecar: RunningSidecar, candidate: bytes, words: str
) -> None:
    """It never answers anybody, and nobody waits ten minutes to learn it."""
    yard.put(B, candidate)
    with sidecar.operator() as operator, pytest.raises(RefusedError, match=words) as refused:
        operator.deploy(MODEL, B, environment=PROD, shadow=LONG)

    assert refused.value.reason == "SHADOW_FAILED"
    assert head(sidecar).version == A
    assert sidecar.predict()[1] == A


def test_a_candidate_that_is_too_slow_is_refused(yard: Yard, sidecar: RunningSidecar) -> None:
    """Both are run one after the other, so that the comparison is fair."""
    yard.put(B, slow())
    plan = Shadow(duration_s=8, min_predictions=5, max_slowdown=3)
    with sidecar.operator() as operator, pytest.raises(RefusedError, match="times as long"):
        operator.deploy(MODEL, B, environment=PROD, shadow=plan)

    assert head(sidecar).version == A


def test_without_enough_traffic_nothing_is_known_and_the_candidate_is_refused(yard: Yard) -> None:
    """No news is not good news."""
    yard.put(A, sensible())
    yard.put(B, sensible())
    with serving(yard, A) as sidecar, sidecar.operator() as operator:
        with pytest.raises(RefusedError, match="only 0 predictions were compared, and 100 are asked for"):
            operator.deploy(MODEL, B, environment=PROD, shadow=Shadow(duration_s=1))

        assert head(sidecar).version == A


def test_a_rollback_goes_before_a_shadow_and_ends_it(yard: Yard) -> None:
    """An incident does not wait for somebody's ten minutes."""
    for version, model in ((A, sensible()), (B, sensible(2.1)), (C, sensible(2.2))):
        yard.put(version, model)
    with serving(yard, A) as sidecar, traffic(sidecar), sidecar.operator() as operator:
        operator.deploy(MODEL, B, environment=PROD)
        refusal: list[BaseException] = []

        def deploy() -> None:
            try:
                operator.deploy(MODEL, C, environment=PROD, shadow=LONG)
            except RefusedError as error:
                refusal.append(error)

        shadowed = threading.Thread(target=deploy)
        shadowed.start()
        sidecar.wait_logged(f"verifying and loading {C}")
        done = operator.rollback(MODEL, environment=PROD, reason="precision alert")
        shadowed.join(30)

        assert done.version == A
        assert [error.reason for error in refusal] == ["SHADOW_FAILED"]  # type: ignore[attr-defined]
        assert "another order" in str(refusal[0])
        assert head(sidecar).version == A


def test_an_edit_of_the_pointer_goes_before_a_shadow_too(yard: Yard, sidecar: RunningSidecar) -> None:
    """Whoever edits the file is an operator as well."""
    yard.put(B, sensible(2.1))
    yard.put(C, sensible(2.2))
    refused = threading.Event()

    def deploy() -> None:
        with sidecar.operator() as operator, pytest.raises(RefusedError, match="edit of the pointer"):
            operator.deploy(MODEL, C, environment=PROD, shadow=LONG)
        refused.set()

    shadowed = threading.Thread(target=deploy)
    shadowed.start()
    sidecar.wait_logged(f"{C} passed its trial")
    yard.replace_pointer(B)
    sidecar.wait_version(B)
    shadowed.join(30)

    assert refused.is_set()


def test_a_shadow_can_be_had_without_the_flip(yard: Yard, sidecar: RunningSidecar) -> None:
    """`--dry-run --shadow` only reports; through the command line, as JSON."""
    yard.put(B, sensible(2.2))
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "model_sidecar_client.cli",
                "--control",
                sidecar.control,
                "deploy",
                MODEL,
                B,
            ),
            *("--environment", PROD, "--dry-run", "-o", "json"),
            *("--shadow", "4s", "--shadow-min-predictions", "20", "--shadow-max-slowdown", "20"),
        ],
        env=as_started(),
        stdout=subprocess.PIPE,
        check=True,
    )
    report = json.loads(done.stdout)

    assert report["dry_run"] is True
    assert report["record"]["status"] == "DRAFT"
    assert report["shadow"]["against"] == A
    assert report["shadow"]["compared"] >= 20
    assert head(sidecar).version == A


def test_asyncio_operators_can_ask_for_a_shadow_too(yard: Yard, sidecar: RunningSidecar) -> None:
    """The same call, awaited."""
    yard.put(B, contrary())

    async def deploy() -> None:
        async with AsyncOperator(sidecar.control) as operator:
            await operator.deploy(MODEL, B, environment=PROD, shadow=LONG)

    with pytest.raises(RefusedError, match="differ"):
        asyncio.run(deploy())


def test_a_shadow_is_of_the_standby_as_well(yard: Yard, sidecar: RunningSidecar) -> None:
    """A version that is in memory already is not waved through for that."""
    yard.put(B, contrary())
    with sidecar.operator() as operator:
        operator.deploy(MODEL, B, environment=PROD)
        operator.rollback(MODEL, environment=PROD)
        with pytest.raises(RefusedError, match="differ"):
            operator.deploy(MODEL, B, environment=PROD, shadow=LONG)

    assert np.isfinite(sidecar.predict()[0])
