"""What is known of a version's drift at one moment, for those who show it: the proto's messages of the same names, frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from model_sidecar.release.baseline import StreamKind
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version

# A report has a thousand of the next two: the garbage collector, which lets nobody in while it looks, need not know of them.


class DriftBin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One bin of a stream: its share of the baseline's rows, and of the last hour's."""

    label: str
    baseline_share: float
    share: float


class DriftStream(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stream; the fields are those of the message (proto/model_sidecar/v1/feedback.proto).

    Attributes:
        direction: "up" or "down" for values, "more" or "less" for shares of rows; "" while little speaks for either, less
            evidence than tenfold.
        size: how far the last hour's share is from the baseline's, where the most evidence points; of an alarm the share
            that its evidence speaks for. 0 without a direction.
    """

    name: str
    kind: StreamKind
    baseline_rows: int
    rows: int
    evidence_log10: float
    direction: str
    size: float
    alarm: bool
    bins: Sequence[DriftBin]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDrift:
    """A version's drift; the fields are those of the message.

    Attributes:
        band: with the margin for what a baseline of so many rows does not know.
        rows: how many were counted since it is watched.
        evidence_log10: as long as there is an alarm, what it began with; never below 0.
        alarm_since: None: no alarm.
        cause: the stream that says most; "" while none says anything, or less than tenfold evidence.
        most_log10: the most evidence of any stream of a kind, of the kinds that there are; the message has it by stream.
    """

    version: Version
    manifest_sha256: Digest
    baseline_rows: int
    band: float
    rows: int
    evidence_log10: float
    threshold_log10: float
    alarm_since: datetime | None
    cause: str
    cause_kind: StreamKind | None
    summary: str
    most_log10: Mapping[StreamKind, float]
    streams: Sequence[DriftStream]
    notes: tuple[str, ...]
