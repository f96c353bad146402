"""One file of the prediction log: an SQLite database of predictions and of what was told of them.

Only the log's thread touches it. Predictions have the key (id, row): ids grow with time, so that rows are appended, and
the feedback of a prediction lies in the same file and leaves with it.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from model_sidecar.events import Site
from model_sidecar.monitor.readings import Joined, WatchedKey
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Environment, ModelName, Version

_SCHEMA = """
CREATE TABLE IF NOT EXISTS version (
    number INTEGER PRIMARY KEY, model TEXT, environment TEXT, version TEXT, manifest TEXT, process TEXT, task TEXT,
    predicts INTEGER, features TEXT
);
CREATE TABLE IF NOT EXISTS prediction (
    id INTEGER, row INTEGER, version INTEGER, prediction, score REAL, confidence REAL, features BLOB,
    PRIMARY KEY (id, row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feedback (
    id INTEGER, row INTEGER, source TEXT, truth, observed_at REAL, told_at REAL, counts INTEGER,
    PRIMARY KEY (id, row, source)
) WITHOUT ROWID;
"""
_LOGGED = "SELECT id, row, version, prediction, score, confidence FROM prediction"
_NOT_A_NUMBER = b"NaN"
"""SQLite keeps NaN as NULL, which is "no prediction"."""


class Columns(NamedTuple):
    """Predictions, a list for each column, all of one length.

    Attributes:
        ids: as in `Readings`.
        rows: as in `Readings`.
        predictions: as `kept` makes them.
        scores: None where there is none, as in the next.
        confidences: of the predicted class.
        features: float64, little-endian, in the order of `Watched.features`; None where they are not kept.
    """

    ids: Sequence[int]
    rows: Sequence[int]
    predictions: Sequence[float | str | bytes | None]
    scores: Sequence[float | None]
    confidences: Sequence[float | None]
    features: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose rows these are: a version, as one process served it. `features` are their columns' names.

    `predicts` is False where nobody knows which output is its prediction.
    """

    key: WatchedKey
    process: str
    task: str
    predicts: bool
    features: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A prediction as the log has it; None where nobody knows what it was."""

    id: int
    row: int
    key: WatchedKey
    task: str
    prediction: float | str | None
    score: float | None
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the log has of one answer: its first row, and the number of its last."""

    first: Logged
    last: int


class DamagedError(sqlite3.DatabaseError):
    """A file whose content makes no sense. `number` is the segment's."""

    def __init__(self, number: int, found: str) -> None:
        super().__init__(found)
        self.number = number


@contextmanager
def damage_told(number: int) -> Iterator[None]:
    """What is done here with the file of this number raises DamagedError where its content makes no sense."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Those below it have other causes: a disk that is full or fails, a lock.
        if type(error) is sqlite3.DatabaseError:
            raise DamagedError(number, str(error)) from error
        raise


class Segment:
    """An open file, or with `path` None a database in memory. Everything may raise sqlite3.Error."""

    def __init__(self, path: Path | None, *, number: int) -> None:
        """Open it, and make it where it is missing."""
        self.number = number
        self.path = path
        self._numbers: dict[Origin, int] = {}
        self._origins: dict[int, Origin] = {}
        self._base = sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=1.0)
        try:
            # NORMAL: what is committed survives the process; after a loss of power, some of the last may be missing.
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-2048"):
                self._base.execute(f"PRAGMA {pragma}").fetchall()
            self._base.execute("PRAGMA journal_size_limit=4194304").fetchall()
            self._base.executescript(_SCHEMA)
            self._read_origins()
        except sqlite3.Error:
            self._base.close()
            raise

    @property
    def bytes(self) -> int:
        """How large it is, as SQLite counts it."""
        (pages,) = self._base.execute("PRAGMA page_count").fetchone()
        (size,) = self._base.execute("PRAGMA page_size").fetchone()
        return int(pages * size)

    @property
    def first_id(self) -> int | None:
        """The least id in it; None while it is empty."""
        (found,) = self._base.execute("SELECT min(id) FROM prediction").fetchone()
        return None if found is None else int(found)

    def begin(self) -> None:
        """Let what follows be one transaction; nothing where one has begun."""
        if not self._base.in_transaction:
            self._base.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Keep what was done since `begin`."""
        if self._base.in_transaction:
            self._base.execute("COMMIT")

    def undo(self) -> None:
        """Forget what was done since `begin`."""
        if self._base.in_transaction:
            self._base.execute("ROLLBACK")
            self._read_origins()

    def add(self, origin: Origin, columns: Columns) -> None:
        """Append predictions; one that is there already stays as it is."""
        self._base.executemany(
            "INSERT OR IGNORE INTO prediction (version, id, row, prediction, score, confidence, features) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            zip(repeat(self._numbered(origin)), *columns, strict=False),
        )

    def answer(self, id: int, process: str) -> Answer | None:
        """What is here of an answer; None where nothing is. However many rows it has, two are read."""
        found = self._base.execute(f"{_LOGGED} WHERE id = ? ORDER BY row LIMIT 1", (id,)).fetchone()
        if found is None or self._origins[found[2]].process != process:
            return None
        (last,) = self._base.execute("SELECT max(row) FROM prediction WHERE id = ?", (id,)).fetchone()
        return Answer(self._logged(found), last)

    def row(self, id: int, row: int) -> Logged | None:
        """One row of an answer; None where it is not here."""
        found = self._base.execute(f"{_LOGGED} WHERE id = ? AND row = ?", (id, row)).fetchone()
        return None if found is None else self._logged(found)

    def told(self, id: int, row: int) -> list[tuple[str, float | str, bool]]:
        """What was told of a prediction: source, truth, and whether that is the one that counts."""
        found = self._base.execute(
            "SELECT source, truth, counts FROM feedback WHERE id = ? AND row = ?", (id, row)
        )
        return [(source, truth, bool(counts)) for source, truth, counts in found]

    def tell(
        self,
        logged: Logged,
        *,
        source: str,
        truth: float | str,
        observed_at: float,
        told_at: float,
        counts: bool,
    ) -> None:
        """Keep what was told of a prediction, in place of what the same source said before."""
        self._base.execute(
            "INSERT OR REPLACE INTO feedback (id, row, source, truth, observed_at, told_at, counts) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (logged.id, logged.row, source, truth, observed_at, told_at, counts),
        )

    def joined(self, since_id: int, limit: int) -> Iterator[tuple[WatchedKey, Joined]]:
        """The newest predictions from this id on of which something counts, oldest first."""
        found = self._base.execute(
            "SELECT * FROM (SELECT p.id, p.row, p.version, p.prediction, p.score, p.confidence, f.truth FROM feedback f "
            "JOIN prediction p ON p.id = f.id AND p.row = f.row WHERE f.counts AND f.id >= ? "
            "ORDER BY f.id DESC, f.row DESC LIMIT ?) ORDER BY 1, 2",
            (since_id, limit),
        )
        for *logged, truth in found:
            each = self._logged(logged)
            if each.prediction is not None:
                yield each.key, Joined(each.id, each.row, each.prediction, each.score, each.confidence, truth)

    def close(self) -> None:
        """Write everything to the file itself, and close it."""
        self._base.close()

    def _numbered(self, origin: Origin) -> int:
        number = self._numbers.get(origin)
        if number is None:
            key = origin.key
            made = self._base.execute(
                "INSERT INTO version (model, environment, version, manifest, process, task, predicts, features) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(key.site.model, key.site.environment, key.version, key.manifest),
                    *(origin.process, origin.task, origin.predicts, origin.features),
                ),
            )
            assert made.lastrowid is not None
            number = self._numbers[origin] = made.lastrowid
            self._origins[number] = origin
        return number

    def _read_origins(self) -> None:
        self._numbers, self._origins = {}, {}
        for number, *told in self._base.execute(
            "SELECT number, model, environment, version, manifest, process, task, predicts, features FROM version"
        ):
            origin = _origin(told)
            self._numbers[origin], self._origins[number] = number, origin

    def _logged(self, found: Sequence[Any]) -> Logged:
        id, row, number, prediction, score, confidence = found
        origin = self._origins[number]
        if prediction == _NOT_A_NUMBER:
            prediction = math.nan
        return Logged(id, row, origin.key, origin.task, prediction, score, confidence)


def kept(prediction: float | str | None) -> float | str | bytes | None:
    """A prediction as it is kept."""
    return _NOT_A_NUMBER if prediction != prediction else prediction  # noqa: PLR0124 - so is NaN


def _origin(told: Sequence[Any]) -> Origin:
    model, environment, version, manifest, process, task, predicts, features = told
    site = Site(ModelName(model), Environment(environment))
    return Origin(
        WatchedKey(site, Version(version), Digest(manifest)), process, task, bool(predicts), features
    )
