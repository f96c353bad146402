"""Where memory does not suffice for two versions at once: in a real control group, with models that really take it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from support import models
from support.memory_groups import MemoryGroup, memory_group
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import SidecarError, UnavailableError

LARGE, NEXT, WRONG = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"
MIB = 1 << 20
SIDE = models.side_of_large(48)
LEFT = 136 * MIB
"""Beside the live 48 MiB: room for the next one's 32 MiB of bytes, not to load it too (2 x 32 and a child process)."""


@contextmanager
def tight(yard: Yard, *options: str) -> Iterator[tuple[RunningSidecar, MemoryGroup]]:
    """A sidecar in a control group, with a large version live and little memory left."""
    yard.put(LARGE, models.large(48, takes="raw"), width=SIDE)
    yard.put(NEXT, models.large(32, takes="raw"), width=models.side_of_large(32))
    yard.put(WRONG, models.large(32, takes="raw"), width=3)
    with memory_group() as group, RunningSidecar(yard, "--standby", "none", *options) as sidecar:
        assert sidecar.process is not None
        group.take(sidecar.process.pid)
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            operator.deploy(MODEL, LARGE, environment=PROD)
        group.allow(LEFT)
        yield sidecar, group
        sidecar.stop()


def version_that_answers(sidecar: RunningSidecar, *, width: int = SIDE) -> str:
    with sidecar.client() as client:
        return client.predict(MODEL, {"raw": np.zeros((1, width), np.float32)}).version


def test_without_room_for_two_the_next_is_refused_until_there_is(yard: Yard) -> None:
    """MEMORY_SHORT, with what was found and needed; the live version answers; a pointer is followed once there is room."""
    with tight(yard) as (sidecar, group), sidecar.operator() as operator:
        with pytest.raises(SidecarError) as refused:
            operator.deploy(MODEL, NEXT, environment=PROD, allow_schema_change=True)
        assert refused.value.reason == "MEMORY_SHORT"
        assert "takes about 128 MiB" in str(refused.value)
        assert version_that_answers(sidecar) == LARGE

        yard.pointer.write_text(f'{{"version": "{NEXT}", "allow_schema_change": true}}')
        sidecar.wait_error("MEMORY_SHORT")
        assert version_that_answers(sidecar) == LARGE
        group.allow(1024 * MIB)
        sidecar.wait_version(NEXT)
        assert version_that_answers(sidecar, width=models.side_of_large(32)) == NEXT


def test_the_live_version_gives_way_where_it_is_told_to(yard: Yard) -> None:
    """`--swap-mode unload-first`: it leaves only for bytes that verify, and the next one answers in its place."""
    with tight(yard, "--swap-mode", "unload-first") as (sidecar, _), sidecar.operator() as operator:
        draft = operator.deploy(MODEL, LARGE, environment=PROD, validate_only=True)
        assert draft.version == LARGE
        damaged = yard.version_dir(NEXT) / "model.onnx"
        whole = damaged.read_bytes()
        damaged.write_bytes(b"\0" + whole[1:])
        with pytest.raises(SidecarError) as refused:
            operator.deploy(MODEL, NEXT, environment=PROD, allow_schema_change=True)
        assert refused.value.reason == "DIGEST_MISMATCH"
        assert "gives way" not in sidecar.log.read_text()

        damaged.write_bytes(whole)
        operator.deploy(MODEL, NEXT, environment=PROD, allow_schema_change=True)
        assert version_that_answers(sidecar, width=models.side_of_large(32)) == NEXT
        assert sidecar.log.read_text().count("gives way") == 1


@pytest.mark.parametrize("by", ["order", "pointer"])
def test_what_gave_way_in_vain_answers_again(yard: Yard, by: str) -> None:
    """The next one fails after the live one has left: that is loaded again, and the attempt is not repeated by itself."""
    with tight(yard, "--swap-mode", "unload-first") as (sidecar, _):
        if by == "order":
            with sidecar.operator() as operator, pytest.raises(SidecarError) as refused:
                operator.deploy(MODEL, WRONG, environment=PROD, allow_schema_change=True)
            assert refused.value.reason == "SIGNATURE_MISMATCH"
        else:
            yard.pointer.write_text(f'{{"version": "{WRONG}", "allow_schema_change": true}}')
            sidecar.wait_error("SIGNATURE_MISMATCH")
        sidecar.wait_version(LARGE)
        assert version_that_answers(sidecar) == LARGE
        time.sleep(2.5)  # looks at the store come ten times a second, and nothing may come of them

        assert version_that_answers(sidecar) == LARGE
        assert sidecar.log.read_text().count("gives way") == 1
        assert sidecar.log.read_text().count(f"{WRONG} is tried in process") == 1


def test_while_nothing_is_live_callers_and_health_are_told(yard: Yard) -> None:
    """Between the two versions a caller is told UNAVAILABLE, and readiness says so."""
    with tight(yard, "--swap-mode", "unload-first") as (sidecar, _):
        yard.pointer.write_text(f'{{"version": "{NEXT}", "allow_schema_change": true}}')
        sidecar.wait_logged("gives way")
        with sidecar.client() as client:
            ready, told = client.is_ready(MODEL), ""
            try:
                client.predict(MODEL, {"raw": np.zeros((1, SIDE), np.float32)}, timeout_s=1.0)
            except UnavailableError as error:
                told = str(error)
        sidecar.wait_version(NEXT)

        assert not ready
        assert "another is being loaded in its place" in told
