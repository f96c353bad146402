"""What an operator may order, and what comes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from model_sidecar.ledger.record import Actor, Record
from model_sidecar.release import strict_json
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.names import Version


@dataclass(frozen=True, slots=True)
class ToPrevious:
    """To the last good version that is not the head's."""


@dataclass(frozen=True, slots=True)
class ToGeneration:
    """To the version of an earlier record."""

    generation: int


@dataclass(frozen=True, slots=True)
class ToVersion:
    """To a version by its name."""

    version: Version


RollbackTarget = ToPrevious | ToGeneration | ToVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What every order says.

    Attributes:
        actor: who the transport says is asking, with the claim on whose behalf.
        expected_generation: the head the operator acted on; None means whichever it is when the order arrives.
        request_id: the same id again is answered with the same record.
        validate_only: do every check, move nothing.
        received: monotonic seconds when the call arrived.
    """

    actor: Actor
    reason: str
    source_commit: str
    request_id: str
    expected_generation: int | None = None
    validate_only: bool = False
    received: float = field(default_factory=time.monotonic)

    def fingerprint(self) -> Digest:
        """What makes two orders the same, so that a request id with another order behind it can be refused."""
        return digest_of(strict_json.dumps([type(self).__name__, *self._what()]))

    def _what(self) -> list[object]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPlan:
    """How long a candidate runs on the live version's requests before it may take its place, and what of it is good enough.

    Attributes:
        max_disagreement: the share of predictions that may differ.
        max_slowdown: how many times as long as the live version's runs its median may take.
        min_predictions: with fewer compared, it is refused.
    """

    duration_s: float
    max_disagreement: float = 0.05
    max_slowdown: float = 2.0
    min_predictions: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What a shadow has shown; the fields are those of the message. Medians and means are NaN where there were none."""

    against: Version
    compared: int
    disagreed: int
    failed: int
    median_ms: float
    against_median_ms: float
    mean_confidence: float
    against_mean_confidence: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOrder(Order):
    """Make this version the head; with `shadow`, only after it has run beside the live one."""

    version: Version
    allow_schema_change: bool = False
    shadow: ShadowPlan | None = None

    def _what(self) -> list[object]:
        return [self.version]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackOrder(Order):
    """Make an earlier version the head.

    `emergency`: where the store fails, and the target is in memory, do it at once and record it later.
    """

    target: RollbackTarget
    emergency: bool = False

    def _what(self) -> list[object]:
        match self.target:
            case ToPrevious():
                return ["previous"]
            case ToGeneration(generation):
                return ["generation", generation]
            case ToVersion(version):
                return ["version", version]


def is_emergency(order: Order) -> bool:
    """Whether the order is to be carried out at once, store or no store."""
    return isinstance(order, RollbackOrder) and order.emergency


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order.

    Attributes:
        record: the record that stands in the ledger; for `validate_only`, the one that would, without a digest.
        took_s: from the order's arrival until this sidecar served the record's version.
        replayed: an earlier order with the same request id had done it.
        pending: it is in effect here, and the record is not in the ledger yet.
        shadow: what the shadow that was asked for has shown.
    """

    record: Record
    took_s: float
    replayed: bool = False
    pending: bool = False
    shadow: ShadowReport | None = None
