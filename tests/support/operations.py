"""A process that performs one of a writer's operations, with the product's own components, whenever it is told to.

`operations.py` reads lines `<operation> <directory> <largest file>` and forks a child for each: one Python start for thousands of
operations. (Nothing here has gRPC in it, which forbids forks.) A child prepares what the operation finds in memory, says
`ready <pid>`, waits for SIGUSR1, acts, and says `said <JSON>` by writev, a system call that the product does not use: so
everything between the two marks in a trace is the operation's own. Then the parent says `ended <status>`.

A directory is a yard's root: its store is `ml-models` below it, a build for the next version `build`. Where a largest file
is given (bytes; 0 is no limit), a write that would pass it is a short one, and the next one fails: a real short write.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from model_sidecar.app.ledgers import open_ledger
from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.errors import SidecarError
from model_sidecar.ledger.commit import Intent
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.ledger.reconcile import Adopt, Decision
from model_sidecar.ledger.record import Action, Actor
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.serving.emergency import Emergency
from model_sidecar.store.layout import Layout
from model_sidecar.store.versions import VersionStore

MODEL, PROD = ModelName("adder"), Environment("prod")
A, B, C = Version("2024.01.10.prod"), Version("2024.01.12.prod"), Version("2024.01.15.prod")
REQUEST = "the-operation"
HELD = "held"
"""What an emergency says once the rollback may take effect: from then on it must not be lost."""
FACTS = PublishFacts(training_date="2024-01-15", data_snapshot_id="snapshot-1", framework="test")

Act = Callable[[], int]
"""What is traced; returns the generation that it is acknowledged with, 0 where there is none."""


def deploy(root: Path) -> Act:
    """A sidecar that has looked before commits a deployment, and remembers it in its state directory."""
    ledger, intent = _looked(root), order(root, Action.DEPLOY, C)
    return lambda: commit(ledger, intent)


def rollback(root: Path) -> Act:
    """The same with a rollback."""
    ledger, intent = _looked(root), order(root, Action.ROLLBACK, A)
    return lambda: commit(ledger, intent)


def emergency(root: Path) -> Act:
    """A rollback takes effect before it is recorded, is held in the state directory, and recorded when the store is back."""
    ledger, intent = _looked(root), order(root, Action.ROLLBACK, A)
    held = Emergency(pending(root))

    def act() -> int:
        held.hold(ledger.draft(intent), why="the store was away")
        say(HELD)
        return record_what_waits(ledger, held)

    return act


def first(root: Path) -> Act:
    """A sidecar starts on a store of versions alone: it looks, and commits the first record."""
    ledger, intent = opened(root), order(root, Action.DEPLOY, A)

    def act() -> int:
        ledger.recall()
        ledger.look()
        return commit(ledger, intent)

    return act


def adopt(root: Path) -> Act:
    """A sidecar looks, finds a pointer that somebody has edited, and records that."""
    ledger = opened(root)
    ledger.recall()
    ledger.refresh()
    return lambda: looked_and_adopted(root, ledger)


def put_back(root: Path) -> Act:
    """Somebody deletes the environment's directory and writes a pointer; a sidecar that remembers puts the ledger back."""
    ledger = _looked(root)
    delete_environment(root)
    return lambda: looked_and_adopted(root, ledger)


def publication(root: Path) -> Act:
    """Somebody publishes what lies in `build`."""
    return lambda: published(root)


OPERATIONS: dict[str, Callable[[Path], Act]] = {
    "deploy": deploy,
    "rollback": rollback,
    "emergency": emergency,
    "adopt": adopt,
    "first": first,
    "put-back": put_back,
    "publish": publication,
}


STORE = "ml-models"


def store_of(root: Path) -> Path:
    return root / STORE


def environment_of(root: Path) -> Path:
    return store_of(root) / MODEL / "environments" / PROD


def opened(root: Path, *, remembering: bool = True) -> Ledger:
    """The ledger, of which nothing is known yet; with this sidecar's own state directory, or with none."""
    memory = Memory(root / "state" / "ledger.seen") if remembering else None
    return open_ledger(Layout(store_of(root)), MODEL, PROD, sidecar_id="sidecar-1", memory=memory)


def pending(root: Path) -> PendingFile:
    """Where a rollback waits to be recorded."""
    return PendingFile(root / "state" / "pending.json")


def record_what_waits(ledger: Ledger, held: Emergency) -> int:
    """Record the rollback that is in effect; its generation."""
    assert held.waiting is not None
    ledger.refresh()
    done = ledger.append(held.waiting.record)
    held.over()
    return done.record.generation


def order(root: Path, action: Action, version: Version, request_id: str = REQUEST) -> Intent:
    """What an operator asked for; the same each time it is asked."""
    return Intent(
        action=action,
        version=version,
        manifest_sha256=identity(root, version),
        actor=Actor("uid:1000", "unix-peer", ""),
        reason="the operation",
        request_id=request_id,
        request_sha256=digest_of(f"{action} {version}".encode()),
    )


def commit(ledger: Ledger, intent: Intent) -> int:
    """Commit on what the head is now, as an order without a stated condition."""
    head = ledger.refresh()
    return ledger.commit(intent, expected_generation=head.generation if head else 0).record.generation


def identity(root: Path, version: Version) -> Digest:
    return VersionStore(store_of(root)).manifest(MODEL, version).digest


def adoption(root: Path, decision: Decision) -> Intent | None:
    """What the manager would have recorded of this decision; None where there is nothing to adopt."""
    if not isinstance(decision, Adopt):
        return None
    return Intent(
        action=Action.ADOPT,
        version=decision.version,
        manifest_sha256=identity(root, decision.version),
        actor=Actor("unknown", "pointer-file", ""),
        reason="the active pointer was edited",
        request_id=decision.request_id,
        request_sha256=decision.request_sha256,
    )


def looked_and_adopted(root: Path, ledger: Ledger) -> int:
    """One look; and what it found edited, recorded. The head's generation."""
    look = ledger.look()
    wanted = adoption(root, look.decision)
    generation = look.head.generation if look.head else 0
    if wanted is None:
        return generation
    return ledger.commit(wanted, expected_generation=generation).record.generation


def delete_environment(root: Path) -> None:
    """Delete the environment's directory with all that is in it, and make it again with a pointer alone."""
    environment = environment_of(root)
    shutil.rmtree(environment)
    environment.mkdir()
    (environment / "active.json").write_text(json.dumps({"version": C}))


def published(root: Path) -> int:
    """Publish the build as version C."""
    publish(root / "build", VersionStore(store_of(root)), model=MODEL, version=C, facts=FACTS)
    return 0


def _looked(root: Path) -> Ledger:
    ledger = opened(root)
    ledger.recall()
    ledger.look()
    return ledger


def _live(operation: str, root: Path, largest_file: int) -> None:
    act = OPERATIONS[operation](root)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    say(f"ready {os.getpid()}")
    signal.sigwait({signal.SIGUSR1})
    try:
        answer: dict[str, object] = {"generation": act()}
    except SidecarError as error:
        answer = {"reason": error.reason.value, "error": type(error).__name__, "message": str(error)}
    except BaseException as error:  # noqa: BLE001 - whatever it is, the examination shows it
        where = " < ".join(
            f"{Path(frame.filename).name}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)[:0:-1]
        )
        answer = {"reason": "", "error": "not one of ours", "message": f"{error!r} at {where}"}
    say(f"said {json.dumps(answer)}")


def say(line: str) -> None:
    os.writev(1, [line.encode() + b"\n"])


def main() -> None:
    """Perform until the input ends."""
    logging.getLogger().addHandler(logging.NullHandler())  # a warning on stderr would be a call of its own
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for line in sys.stdin:
        operation, root, largest_file = line.split()
        child = os.fork()
        if not child:
            _live(operation, Path(root), int(largest_file))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
