"""Batching in a real sidecar: found out in the trial, told by Status, and invisible in the answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from support import batchable
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, Yard

from model_sidecar_client import AsyncClient, ResidentVersion
from model_sidecar_client.wire import services
from model_sidecar_client.wire.inference import ModelStatisticsRequest

VERSION = "2024.01.10.prod"
WIDTH, ASKERS = 1024, 48


def live(sidecar: RunningSidecar) -> ResidentVersion:
    with sidecar.operator() as operator:
        (status,) = operator.status(MODEL)
    (resident,) = status.resident
    return resident


async def answers(target: str, rows: list[np.ndarray], *, at_once: bool) -> list[bytes]:
    """What each of these inputs is answered, asked for one after the other or all at once."""
    async with AsyncClient(target) as client:

        async def answer(row: np.ndarray) -> bytes:
            return bytes(np.asarray((await client.predict(MODEL, {"x": row})).outputs["y"]).tobytes())

        if at_once:
            return list(await asyncio.gather(*map(answer, rows)))
        return [await answer(row) for row in rows]


@pytest.mark.parametrize("allowed", [64, 1])
def test_callers_who_ask_at_once_are_answered_as_if_they_had_not(tmp_path: Path, allowed: int) -> None:
    """A weight-bound model is run for several at once, unless the operator says no; the bits are those of lonely callers."""
    yard = Yard(tmp_path)
    yard.publish(VERSION, model=batchable.mlp(width=WIDTH))
    random = np.random.default_rng(7)
    rows = [random.standard_normal((1 + number % 3, WIDTH)).astype(np.float32) for number in range(ASKERS)]
    with serving(yard, VERSION, "--max-batch-rows", str(allowed), "--threads", "2") as sidecar:
        told = live(sidecar)
        alone = asyncio.run(answers(sidecar.data, rows, at_once=False))
        together = asyncio.run(answers(sidecar.data, rows, at_once=True))
        with grpc.insecure_channel(sidecar.data) as channel:
            ask = services.multicallables(channel, services.INFERENCE).ModelStatistics
            (counted,) = ask(ModelStatisticsRequest(name=MODEL)).model_stats

    assert together == alone
    assert counted.inference_stats.success.count == 2 * ASKERS
    assert told.cost_seconds > 200e-6
    if allowed == 1:
        assert (told.execution, told.max_batch_rows) == ("lanes", 0)
        assert counted.execution_count == 2 * ASKERS
    else:
        assert told.execution == "batched"
        assert 8 <= told.max_batch_rows <= allowed
        assert ASKERS < counted.execution_count < 2 * ASKERS


def test_a_version_that_was_tried_without_rows_is_tried_with_them(tmp_path: Path) -> None:
    """What a sidecar remembers of a trial is enough for a start with the same setting, and not for one with more rows."""
    yard = Yard(tmp_path)
    yard.publish(VERSION, model=batchable.mlp(width=WIDTH))
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(yard, VERSION, *state, "--max-batch-rows", "0") as sidecar:
        assert live(sidecar).execution == "lanes"
        assert sidecar.stop() == 0
    for _ in range(2):
        with RunningSidecar(yard, *state) as sidecar:
            sidecar.wait_answering().wait_ready()
            assert live(sidecar).execution == "batched"
            tried = sidecar.log.read_text().count("is tried in process")
            assert sidecar.stop() == 0
    assert tried == 0, "the second time it was known"
