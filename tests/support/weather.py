"""Bad weather for a running sidecar: while it lasts, its calls to the store fail, or it is out of descriptors."""

from __future__ import annotations

import json
import resource
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.sidecars import RunningSidecar
from support.strace import Strace
from support.traffic import Traffic
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import Operator, SidecarError

CONVERGED_S = 30.0
ALLOWED = {
    "ok",
    "STORE_UNAVAILABLE",
    "STORE_FULL",
    "COMMIT_STATE_UNKNOWN",
    "GENERATION_MISMATCH",
    "TRIAL_IMPOSSIBLE",
}
"""What an order may be answered with. A hand edit may come in between."""

# Nothing but the store's files is asked for by these, in any thread.
STORE_CALLS = (
    "link,linkat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,fsync,fdatasync,fchmod,getdents64,"
    "statfs,access,faccessat,faccessat2"
)
# By these, the store's files as well as sockets and others: for some paths only.
ANY_CALLS = (
    f"{STORE_CALLS},open,openat,read,readv,pread64,write,close,stat,lstat,fstat,newfstatat,statx,fstatfs"
)
_COMING = 400


@contextmanager
def failing_calls(sidecar: RunningSidecar, error: str, names: str = STORE_CALLS) -> Iterator[None]:
    """Every call of these names fails: by default all that only the store gets."""
    yield from _injected(sidecar, "-e", f"inject={names}:error={error}")


@contextmanager
def failing_paths(sidecar: RunningSidecar, error: str) -> Iterator[None]:
    """Every call fails that names or has open one of the store's files or directories, those to come included."""
    paths = [option for path in store_paths(sidecar.yard) for option in ("-P", str(path))]
    yield from _injected(sidecar, *paths, "-e", f"inject={ANY_CALLS}:error={error}")


@contextmanager
def few_descriptors(sidecar: RunningSidecar, *, left: int) -> Iterator[None]:
    """The whole process can have so many more files and sockets open, and no more."""
    assert sidecar.process is not None
    pid = sidecar.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    free = [number for number in range(max(taken) + left + 2) if number not in taken]
    # A new one gets the lowest free number, which has to be below the limit.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[left], before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@dataclass
class Endured:
    """What a sidecar did in bad weather, and what was wrong with that; reasons of orders, and of Status, by how often."""

    reasons: Counter[str] = field(default_factory=Counter)
    status: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    answers: int = 0
    log_lines: int = 0
    converged_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def endure(
    sidecar: RunningSidecar,
    traffic: Traffic,
    weather: AbstractContextManager[None],
    versions: tuple[str, ...],
    *,
    for_s: float,
) -> Endured:
    """Order in bad weather, edit the pointer at its end, and see what the sidecar comes to when it is over.

    Nothing is ordered afterwards: what was wanted last is the hand edit, and the sidecar is to come to it by itself.
    """
    yard, endured = sidecar.yard, Endured()
    answers, lines = len(traffic.answers), len(sidecar.log.read_text().splitlines())
    with sidecar.operator() as operator:
        operator.status(MODEL, environment=PROD)  # connected, for there may be no descriptor for it later
        with weather:
            end = time.monotonic() + for_s
            while time.monotonic() < end:
                version = versions[sum(endured.reasons.values()) % len(versions)]
                _order(operator, version, endured)
                if status := operator.status(MODEL, environment=PROD):
                    error = status[0].last_error
                    endured.status[error.reason if error is not None else ""] += 1
                time.sleep(0.02)
            endured.log_lines = len(sidecar.log.read_text().splitlines()) - lines
            live = traffic.answers[-1].version
            edit = next(version for version in versions if version != live)
            yard.replace_pointer(edit)
            time.sleep(0.3)  # in bad weather it is looked at, too
        began = time.monotonic()
        while (differs := _differs(yard, operator, edit)) and time.monotonic() < began + CONVERGED_S:
            time.sleep(0.02)
        endured.converged_s = time.monotonic() - began
        if differs:
            endured.problems.append(f"{CONVERGED_S} s after it was over: {differs}")
    endured.answers = len(traffic.answers) - answers
    recorded = {record.request_id: record.generation for record in yard.ledger().records(limit=10**6)}
    for request_id, generation in endured.acknowledged.items():
        if recorded.get(request_id) != generation:
            endured.problems.append(f"lost: {request_id}, generation {generation}")
    endured.problems += [f"refused and recorded: {each}" for each in endured.refused & set(recorded)]
    endured.problems += [f"said {each}" for each in set(endured.reasons) - ALLOWED]
    if sidecar.dead():
        endured.problems.append("the sidecar has exited")
    if not endured.answers:
        endured.problems.append("no prediction was answered")
    endured.problems += [f"prediction failed: {error!r}" for error in traffic.failures]
    endured.problems += [f"prediction mis-tagged: {each}" for each in traffic.mistagged]
    return endured


def _order(operator: Operator, version: str, endured: Endured) -> None:
    request_id = uuid.uuid4().hex
    try:
        done = operator.deploy(MODEL, version, environment=PROD, request_id=request_id, timeout_s=20)
    except SidecarError as error:
        endured.reasons[str(error.reason)] += 1
        if error.reason in {"STORE_UNAVAILABLE", "STORE_FULL"}:
            endured.refused.add(request_id)
    else:
        endured.reasons["ok"] += 1
        endured.acknowledged[request_id] = done.generation


def _differs(yard: Yard, operator: Operator, edit: str) -> str:
    status = operator.status(MODEL, environment=PROD)[0]
    live = (status.observed.version, status.observed.generation) if status.observed is not None else None
    head = yard.ledger().head
    pointer = json.loads(yard.pointer.read_bytes())
    if head is not None and live == (edit, head.generation) == (
        pointer["version"],
        pointer.get("generation"),
    ):
        return "" if status.last_error is None else f"Status still says {status.last_error}"
    return f"live {live}, head {head and (head.version, head.generation)}, pointer {pointer}"


def store_paths(yard: Yard) -> list[Path]:
    """What is in the store, and the records that are to come."""
    environment = yard.pointer.parent
    there = [path for path in yard.store.rglob("*") if not path.name.endswith(".tmp")]
    ledger = environment / "ledger"
    last = len(list(ledger.glob("*.json")))
    coming = [ledger / f"{number:020}.json" for number in range(last + 1, last + _COMING)]
    return [yard.store, *there, *coming]


def _injected(sidecar: RunningSidecar, *options: str) -> Iterator[None]:
    assert sidecar.process is not None
    output = sidecar.run_dir / "weather.trace"
    with Strace(sidecar.process.pid, "-f", *options, output=output):
        yield
    output.unlink()
