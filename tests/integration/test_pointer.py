"""Every way to flip: by call, by command, by hand, and as machines do it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import SidecarError

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"

Flip = Callable[[Yard, RunningSidecar, str], None]


def by_call(yard: Yard, sidecar: RunningSidecar, version: str) -> None:
    with sidecar.operator() as operator:
        operator.deploy(MODEL, version, environment=PROD, reason="by call")


def by_command(yard: Yard, sidecar: RunningSidecar, version: str) -> None:
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
                version,
            ),
            *("--environment", PROD, "--reason", "by command", "--yes"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def by_editor(yard: Yard, sidecar: RunningSidecar, version: str) -> None:
    yard.edit_pointer(version)


def by_rename(yard: Yard, sidecar: RunningSidecar, version: str) -> None:
    yard.replace_pointer(version)


def by_a_new_directory(yard: Yard, sidecar: RunningSidecar, version: str) -> None:
    yard.recreate_directory(version)


WAYS = {
    "the RPC": by_call,
    "the command": by_command,
    "an editor": by_editor,
    "os.replace": by_rename,
    "a deleted and recreated directory": by_a_new_directory,
}


@pytest.mark.parametrize("events", ["--file-events", "--no-file-events"])
@pytest.mark.parametrize("flip", WAYS.values(), ids=WAYS.keys())
def test_a_flip_is_followed_and_recorded(yard: Yard, flip: Flip, events: str) -> None:
    """However the pointer moves, with and without file events, the version answers and stands in the ledger."""
    for version in (A, B):
        yard.publish(version)
    with serving(yard, A, events) as sidecar:
        flip(yard, sidecar, B)
        sidecar.wait_version(B)

        assert sidecar.predict(1.0) == (yard.expected(B, 1.0), B)
        records = yard.ledger().records()
        assert [(record.generation, record.version) for record in records] == [(2, B), (1, A)]
        pointer = json.loads(yard.pointer.read_text())
        assert (pointer["generation"], pointer["version"]) == (2, B)


@pytest.mark.parametrize("events", ["--file-events", "--no-file-events"])
def test_a_configmap_is_followed_and_never_written(yard: Yard, events: str) -> None:
    """A mounted ConfigMap's `..data` swap flips; nothing is recorded, and operators' calls say who manages it."""
    for version in (A, B):
        yard.publish(version)
    yard.swap_configmap(A)
    with RunningSidecar(yard, events) as sidecar:
        sidecar.wait_answering().wait_version(A)
        yard.swap_configmap(B)
        status = sidecar.wait_version(B)

        assert sidecar.predict(1.0) == (yard.expected(B, 1.0), B)
        assert status.pointer_externally_managed
        assert yard.ledger().records() == ()
        assert yard.pointer.is_symlink()
        with sidecar.operator() as operator:
            with pytest.raises(SidecarError, match="managed from outside") as refused:
                operator.rollback(MODEL, environment=PROD)
            assert refused.value.reason == "POINTER_EXTERNALLY_MANAGED"
            with pytest.raises(SidecarError) as refused:
                operator.deploy(MODEL, A, environment=PROD)
            assert refused.value.reason == "POINTER_EXTERNALLY_MANAGED"


def test_a_pointer_written_before_the_first_start_is_adopted(yard: Yard) -> None:
    """A store with a hand-written pointer and no ledger is a way to begin."""
    yard.publish(A)
    yard.edit_pointer(A)
    with RunningSidecar(yard) as sidecar:
        sidecar.wait_answering().wait_version(A)

        assert [record.action.value for record in yard.ledger().records()] == ["ADOPT"]


def test_many_edits_in_a_row_end_at_the_last(yard: Yard) -> None:
    """Forty edits in a burst: the last one answers, and the ledger names only what was really adopted."""
    for version in (A, B, C):
        yard.publish(version)
    with serving(yard, A) as sidecar:
        for turn in range(40):
            yard.replace_pointer((A, B, C)[turn % 3])
        yard.replace_pointer(C)
        sidecar.wait_version(C)

        records = yard.ledger().records()
        assert records[0].version == C
        assert len(records) < 41


def test_two_sidecars_follow_each_other_without_file_events(yard: Yard) -> None:
    """A rollback through one sidecar is followed by the other within two poll periods, events off."""
    for version in (A, B):
        yard.publish(version)
    slow = ("--no-file-events", "--poll-interval", "1s")
    with serving(yard, A, *slow) as one, RunningSidecar(yard, *slow) as two:
        two.wait_answering().wait_version(A)
        with one.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD, reason="worse")
            two.wait_version(B)
            operator.rollback(MODEL, environment=PROD, reason="it was worse")
            began = time.monotonic()
            two.wait_version(A)
            taken_s = time.monotonic() - began
        print(f"\nthe other sidecar followed after {taken_s:.2f} s, polling every 1 s")

        assert taken_s < 2.0
        assert two.predict(0.0) == (yard.expected(A, 0.0), A)
