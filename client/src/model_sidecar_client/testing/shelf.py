"""The stand-in's memory: which versions there are, what they answer, which is live, and the ledger."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from model_sidecar_client.tensors import Values
from model_sidecar_client.testing.script import Failure
from model_sidecar_client.wire import deployment as wire

Outputs = Mapping[str, Values]
Answer = Outputs | Callable[[Mapping[str, Values]], Outputs]


@dataclass(slots=True)
class Published:
    """A version in the store. `problem` is the reason why it fails verification, "" for a good one."""

    version: str
    answer: Answer
    inputs: Mapping[str, str]
    problem: str = ""


@dataclass(slots=True)
class Model:
    """A model's versions and ledger. Only ever touched under the shelf's lock."""

    name: str
    versions: dict[str, Published] = field(default_factory=dict)
    ledger: list[wire.Record] = field(default_factory=list)
    standby: str = ""
    # The records with which each version came into memory, and with which the live one began to answer.
    loaded_by: dict[str, wire.Record] = field(default_factory=dict)
    live_by: wire.Record = field(default_factory=wire.Record)

    @property
    def live(self) -> str:
        """The version that answers; "" for none."""
        return self.ledger[-1].version if self.ledger else ""

    @property
    def generation(self) -> int:
        """The head's; 0 for an empty ledger."""
        return len(self.ledger)

    def published(self, version: str) -> Published:
        """A version of the store, or a Failure."""
        if version not in self.versions:
            raise Failure(
                grpc.StatusCode.NOT_FOUND,
                "VERSION_NOT_FOUND",
                f"model {self.name!r} has no version {version!r}",
            )
        return self.versions[version]

    def resident(self, version: str) -> Published:
        """The version that a prediction asks for, or a Failure."""
        if not self.live:
            raise Failure(grpc.StatusCode.UNAVAILABLE, "NOTHING_LIVE", f"no version of {self.name!r} is live")
        wanted = {"": self.live, "@previous": self.standby}.get(version, version)
        published = self.published(wanted)
        if wanted not in {self.live, self.standby}:
            raise Failure(
                grpc.StatusCode.FAILED_PRECONDITION,
                "VERSION_NOT_RESIDENT",
                f"version {wanted!r} of {self.name!r} is not resident: expected {self.live!r} or {self.standby!r}",
            )
        return published

    def good_previous(self) -> str:
        """The last version that is not live and that nobody rolled back from since it was last deployed."""
        bad = set()
        for record in self.ledger:
            if record.action == wire.ACTION_ROLLBACK:
                bad.add(record.previous_version)
            bad.discard(record.version)
        for record in reversed(self.ledger):
            if record.version != self.live and record.version not in bad:
                return record.version
        raise Failure(
            grpc.StatusCode.FAILED_PRECONDITION,
            "NO_PREVIOUS_VERSION",
            f"model {self.name!r} has no earlier good version to roll back to",
        )

    def append(self, record: wire.Record) -> None:
        """Make a record the head."""
        if record.version not in {self.live, self.standby}:
            self.loaded_by[record.version] = record
        if record.version != self.live:
            self.standby, self.live_by = self.live, record
        record.record_sha256 = hashlib.sha256(record.SerializeToString(deterministic=True)).hexdigest()
        self.ledger.append(record)

    def drafted(self, action: wire.Action, version: str, environment: str) -> wire.Record:
        """The record that would come next, without what only an operator's request can say."""
        record = wire.Record(
            schema=1,
            generation=self.generation + 1,
            previous_record_sha256=self.ledger[-1].record_sha256 if self.ledger else "",
            model=self.name,
            environment=environment,
            action=action,
            version=version,
            manifest_sha256=manifest_sha256(self.name, version),
            previous_version=self.live,
            actor=wire.Actor(id="somebody", method="stand-in"),
            written_by=wire.Writer(
                sidecar="stand-in", host="localhost", software="model_sidecar_client.testing"
            ),
            status="COMMITTED",
        )
        now = time.time_ns()
        record.timestamp.seconds, record.timestamp.nanos = divmod(now, 1_000_000_000)
        return record


class Shelf:
    """All models of a stand-in. Any thread may use it."""

    def __init__(self, environment: str) -> None:
        self.environment = environment
        self.is_ready = True
        self.is_closed = False
        self.answered: set[str] = set()  # the ids of predictions; only ever added to
        self._models: dict[str, Model] = {}
        # Guards all of the above and the count of changes; notified at every change, for those who watch.
        self._changed = threading.Condition()
        self._changes = 0

    @contextmanager
    def models(self) -> Iterator[dict[str, Model]]:
        """All models, only to be looked at."""
        with self._changed:
            yield self._models

    @contextmanager
    def changing(self) -> Iterator[dict[str, Model]]:
        """All models, to be changed; watchers are told afterwards."""
        with self._changed:
            yield self._models
            self._changes += 1
            self._changed.notify_all()

    @contextmanager
    def model(self, name: str, environment: str | None = None) -> Iterator[Model]:
        """One model, to be looked at or moved on, or a Failure."""
        if environment is not None and environment != self.environment:
            raise Failure(
                grpc.StatusCode.NOT_FOUND,
                "MODEL_NOT_FOUND",
                f"this sidecar serves environment {self.environment!r}, not {environment!r}",
            )
        with self.models() as models:
            if name not in models:
                raise Failure(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", f"no model {name!r} here")
            before = models[name].generation
            yield models[name]
            if models[name].generation != before:
                self._changes += 1
                self._changed.notify_all()

    @property
    def changes(self) -> int:
        """How many there were."""
        with self._changed:
            return self._changes

    def wait(self, changes: int, timeout_s: float) -> None:
        """Until there were more changes than these, or for this long."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != changes, timeout_s)


def manifest_sha256(model: str, version: str) -> str:
    """A made-up but steady identity of a version."""
    return hashlib.sha256(f"{model}/{version}".encode()).hexdigest()
