"""How the bytes of `baseline.json` become a baseline, or the one reason why they do not; and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import msgspec

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.release import strict_json
from model_sidecar.release.baseline import (
    MAX_CLASSES,
    MAX_FEATURES,
    Baseline,
    Calibration,
    Classes,
    StreamBaseline,
    StreamKind,
)
from model_sidecar.release.manifest import BASELINE

MAX_BASELINE_BYTES = 1 << 20
_SCHEMA = 1
_MAX_CUTS = 9
_MAX_EDGES = 99
_SAID = 300


def parse_baseline(content: bytes) -> Baseline:
    """The baseline in these bytes.

    Raises:
        VerificationError: BASELINE_INVALID; it is none, or it contradicts itself.
    """
    if len(content) > MAX_BASELINE_BYTES:
        raise _invalid(f"has more than the {MAX_BASELINE_BYTES} bytes that are read")
    try:
        document = msgspec.convert(strict_json.loads(content), _Document)
    except strict_json.NotStrictJsonError as error:
        raise _invalid(str(error)) from None
    except msgspec.ValidationError as error:
        said = str(error)  # it quotes the document, whatever that holds
        raise _invalid(said if len(said) <= _SAID else f"{said[:_SAID]} …") from None
    baseline = Baseline(
        rows=document.rows,
        streams=tuple(_stream(each, document.rows) for each in document.streams),
        classes=_classes(document.classes, document.rows),
        nonfinite=document.nonfinite,
        commonest=document.commonest,
        calibration=_calibration(document.calibration, document.rows),
        error_q90=document.error_q90,
    )
    _check(baseline)
    return baseline


def write_baseline(baseline: Baseline) -> bytes:
    """The bytes of `baseline.json`; the same baseline makes the same bytes."""
    return strict_json.dumps({"schema_version": _SCHEMA, **msgspec.to_builtins(baseline)})


# The document as it stands in the file.

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Name = Annotated[str, msgspec.Meta(max_length=4096)]
_Cuts = Annotated[tuple[float, ...], msgspec.Meta(max_length=_MAX_CUTS)]
_CutCounts = Annotated[tuple[_Count, ...], msgspec.Meta(max_length=_MAX_CUTS)]


class _Stream(msgspec.Struct, frozen=True):
    name: _Name
    kind: Literal["feature", "score", "confidence"]
    cuts: _Cuts
    at_or_below: _CutCounts
    finite: _Count
    nan: _Count = 0
    infinite: _Count = 0
    low: float | None = None
    high: float | None = None


class _Classes(msgspec.Struct, frozen=True):
    names: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=MAX_CLASSES)]
    counts: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=MAX_CLASSES)]
    other: _Count = 0


class _Calibration(msgspec.Struct, frozen=True):
    edges: Annotated[tuple[float, ...], msgspec.Meta(max_length=_MAX_EDGES)]
    rows: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=_MAX_EDGES + 1)]
    errors: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=_MAX_EDGES + 1)]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: Literal[1]
    rows: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    streams: Annotated[tuple[_Stream, ...], msgspec.Meta(max_length=MAX_FEATURES + 2)] = ()
    classes: _Classes | None = None
    nonfinite: _Count = 0
    commonest: _Count = 0
    calibration: _Calibration | None = None
    error_q90: Annotated[float, msgspec.Meta(ge=0)] | None = None


def _stream(said: _Stream, rows: int) -> StreamBaseline:
    where = f"stream {said.kind} {said.name[:80]!r}"
    if said.finite + said.nan + said.infinite != rows:
        raise _invalid(f"{where}: finite, nan and infinite are not the {rows} rows together")
    if len(said.cuts) != len(said.at_or_below):
        raise _invalid(
            f"{where} has {len(said.cuts)} cuts, and {len(said.at_or_below)} counts at or below them"
        )
    if not _ascends(said.cuts):
        raise _invalid(f"{where}: its cuts do not ascend")
    if not _ascends((0, *said.at_or_below, said.finite)) and said.cuts:
        raise _invalid(
            f"{where}: expected counts at or below the cuts that ascend, above 0 and below {said.finite}"
        )
    if (
        (said.low is None or said.high is None)
        if said.finite
        else (said.low is not None or said.high is not None)
    ):
        raise _invalid(f"{where} has {said.finite} finite values: expected low and high where there are any")
    if said.low is not None and said.high is not None:
        extremes = (said.low, *said.cuts, said.high)
        if any(left > right for left, right in pairwise(extremes)):
            raise _invalid(f"{where}: expected low, cuts and high in this order")
    return StreamBaseline(
        name=said.name,
        kind=StreamKind(said.kind),
        cuts=said.cuts,
        at_or_below=said.at_or_below,
        finite=said.finite,
        nan=said.nan,
        infinite=said.infinite,
        low=said.low,
        high=said.high,
    )


def _classes(said: _Classes | None, rows: int) -> Classes | None:
    if said is None:
        return None
    if len(said.names) != len(said.counts) or len(set(said.names)) != len(said.names):
        raise _invalid("classes: expected each name once, and a count for each")
    if sum(said.counts) + said.other != rows:
        raise _invalid(f"classes: the counts and other are not the {rows} rows together")
    return Classes(said.names, said.counts, said.other)


def _calibration(said: _Calibration | None, rows: int) -> Calibration | None:
    if said is None:
        return None
    if not len(said.rows) == len(said.errors) == len(said.edges) + 1:
        raise _invalid("calibration: expected rows and errors for each bin, one more than edges")
    if not _ascends(said.edges):
        raise _invalid("calibration: its edges do not ascend")
    if sum(said.rows) > rows or any(wrong > of for wrong, of in zip(said.errors, said.rows, strict=True)):
        raise _invalid("calibration: expected no more errors than rows, and no more rows than the baseline's")
    return Calibration(said.edges, said.rows, said.errors)


def _check(baseline: Baseline) -> None:
    names = [(each.kind, each.name) for each in baseline.streams]
    if len(set(names)) != len(names):
        raise _invalid("a stream stands there twice")
    kinds = [kind for kind, _ in names]
    if kinds.count(StreamKind.FEATURE) > MAX_FEATURES:
        raise _invalid(f"more than {MAX_FEATURES} features")
    if kinds.count(StreamKind.SCORE) > 1 or kinds.count(StreamKind.CONFIDENCE) > 1:
        raise _invalid("more than one score, or more than one confidence")
    if max(baseline.nonfinite, baseline.commonest) > baseline.rows:
        raise _invalid(f"nonfinite or commonest is more than the {baseline.rows} rows")


def _ascends(values: Sequence[float]) -> bool:
    return all(left < right for left, right in pairwise(values))


def _invalid(words: str) -> VerificationError:
    return VerificationError(
        f"{BASELINE}: {words}; make it anew with publish --baseline-data", reason=Reason.BASELINE_INVALID
    )


# As in `manifest_reading`: msgspec meets these types in the one thread that imports this.
msgspec.convert(
    {
        "schema_version": 1,
        "rows": 1,
        "streams": [{"name": "x", "kind": "feature", "cuts": [], "at_or_below": [], "finite": 0, "nan": 1}],
        "classes": {"names": ["a"], "counts": [1]},
        "calibration": {"edges": [], "rows": [1], "errors": [0]},
        "error_q90": 0.0,
    },
    _Document,
)
