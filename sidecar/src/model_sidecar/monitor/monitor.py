"""The monitor's thread: takes what was noted, reads it, and shows it to whoever watches."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Protocol

from model_sidecar.events import Event, Published, Released, Site, StandbyReady
from model_sidecar.monitor.intake import BLOCK_ROWS, Intake, Note, Told
from model_sidecar.monitor.pieces import Pieces, pieces_of
from model_sidecar.monitor.prediction_ids import made_at_ms
from model_sidecar.monitor.reading import (
    NOTES_AT_ONCE,
    Sheet,
    read,
    read_told,
    says_all,
    shapes_of,
    sheet_of,
    told_of,
)
from model_sidecar.monitor.readings import Observer, Readings, Watched
from model_sidecar.monitor.tallies import Tallies
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.serving.stage import Model

log = logging.getLogger(__name__)

TICK_S = 0.75
"""How often what came in is read and shown: with the log's own wait, an answer is in the log within a second."""
# To begin costs about a third of a millisecond, so it is done once a tick; sooner where feedback asks for what was noted
# just now, or the intake fills; not more often than this.
_SOONEST_S = 0.05
# An id is made a moment before its answer is noted: while that is built.
_ANSWER_MS = 2_000
_SHEETS = 64
_MOST_SHAPES = 16
"""Of so many different ones the notes of a piece are read, the most frequent; each costs about as much as a piece."""

_Key = tuple[Site, Digest]
ResidentOf = Callable[[Site, Version], Model | None]
BaselineOf = Callable[[Site, Model], Baseline | None]


class Recorder(Protocol):
    """Who is shown readings as soon as they are made, several times a tick, on the monitor's thread."""

    def record(self, watched: Watched, readings: Readings) -> None:
        """Take in some rows of one version, 1 at least, as many as the intake takes at most. Must not wait for anything."""
        ...


class Mirror(Protocol):
    """Who is shown answers as they were noted, on the monitor's thread."""

    def mirror(self, watched: Watched, notes: Sequence[Note], readings: Readings) -> None:
        """Take in at most `NOTES_AT_ONCE` answers of one version, and what was read of them. Must not wait for anything."""
        ...

    def mirror_failed(self, watched: Watched, note: Note) -> None:
        """Take in what a version has failed on: a note without outputs. Must not wait for anything."""
        ...


class Monitor:
    """Reads what the intake was given. `start` and `stop` are the owner's; the rest may be called by any thread."""

    def __init__(
        self,
        intake: Intake,
        *,
        recorders: Sequence[Recorder] = (),
        observers: Sequence[Observer] = (),
        mirrors: Sequence[Mirror] = (),
        tallies: Tallies | None = None,
        resident_of: ResidentOf = lambda _site, _version: None,
        baseline_of: BaselineOf = lambda _site, _model: None,
    ) -> None:
        """Show what comes in to these, in this order.

        Args:
            intake: where answers are noted.
            recorders: are shown rows at once.
            observers: are shown a tick's rows together.
            mirrors: are shown the notes themselves.
            tallies: where rows are counted that found no room.
            resident_of: the model that is in memory under this name, for predictions that were made elsewhere.
            baseline_of: what a version was published with, asked once for each that is loaded.
        """
        self._intake = intake
        self._recorders = tuple(recorders)
        self._observers = tuple(observers)
        self._mirrors = tuple(mirrors)
        self._tallies = tallies or Tallies()
        self._resident_of = resident_of
        self._baseline_of = baseline_of
        # The monitor's thread's own, all three.
        self._sheets: dict[_Key, Sheet] = {}
        self._read_now = Pieces()
        self._read_this_tick = Pieces()
        self._lock = threading.Condition()  # guards everything below
        self._released: set[_Key] = set()
        self._taken_ms = 0
        self._waiting: list[Callable[[], None]] = []
        self._stopping = self._ended = self._filling = False
        intake.when_filling(self._hurry)
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout_s: float) -> None:
        """Work off what is noted, show it, and end."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def on_event(self, event: Event) -> None:
        """A listener: versions come and go."""
        match event:
            case Released(site=site, manifest=manifest):
                with self._lock:
                    self._released.add((site, manifest))
            case Published(site=site, manifest=manifest) | StandbyReady(site=site, manifest=manifest):
                with self._lock:
                    self._released.discard((site, manifest))
            case _:
                pass

    def once_recorded(self, id: int, then: Callable[[], None]) -> None:
        """Call `then`, which must not wait, once the answer of this id was shown to the recorders.

        At once where it has been already; else the thread works sooner, and calls it.
        """
        with self._lock:
            fresh = made_at_ms(id) >= self._taken_ms - _ANSWER_MS
            if fresh and self._thread.ident is not None and not self._ended:
                self._waiting.append(then)
                self._lock.notify()
                return
        then()

    def _hurry(self) -> None:
        with self._lock:
            self._filling = True
            self._lock.notify()

    def _run(self) -> None:
        ticked = worked = time.monotonic()
        stopping = False
        while not stopping:
            with self._lock:
                self._lock.wait_for(
                    lambda: self._stopping or self._waiting or self._filling,
                    ticked + TICK_S - time.monotonic(),
                )
                if not self._stopping:
                    self._lock.wait_for(lambda: self._stopping, worked + _SOONEST_S - time.monotonic())
                self._ended = stopping = self._stopping
                self._filling = False
                waiting, self._waiting = self._waiting, []
                released, self._released = self._released, set()
            worked = time.monotonic()
            _guarded("the monitor's work", self._work)
            self._go_on(waiting)
            # Observers are shown sooner what would fill the memory: features are wide, and an intake that fills is taken often.
            if stopping or worked - ticked >= TICK_S or self._read_this_tick.rows >= BLOCK_ROWS:
                ticked = worked
                _guarded("the monitor's tick", self._tick)
            for key in released:
                self._sheets.pop(key, None)

    def _go_on(self, waiting: Iterable[Callable[[], None]]) -> None:
        # Apart, so that nothing of it is kept by a name of a loop that never ends.
        for then in waiting:
            _guarded("what waits for a record", then)

    def _work(self) -> None:
        taken_ms = time.time_ns() // 1_000_000
        block = self._intake.take()
        with self._lock:
            self._taken_ms = taken_ms
        for site, rows in block.dropped.items():
            self._tallies.dropped("notes", site, rows)
        for piece in pieces_of(block.notes):
            _guarded("reading answers", partial(self._read, piece))
        for note in block.failed:
            _guarded("showing a failure", partial(self._show_failed, note))
        by_version: defaultdict[tuple[Site, Version, bool], list[Told]] = defaultdict(list)
        for told in block.told:
            by_version[told.site, told.version, isinstance(told.prediction, float)].append(told)
        for (site, version, of_numbers), each in by_version.items():
            _guarded(
                "reading predictions", partial(self._read_told, site, version, each, of_numbers=of_numbers)
            )
        for watched, readings in self._read_now.taken():
            for recorder in self._recorders:
                _guarded(_name(recorder), partial(recorder.record, watched, readings))
            if self._observers:
                self._read_this_tick.add(watched, readings)

    def _read(self, notes: list[Note]) -> None:
        sheet = self._sheet(notes[0].site, notes[0].model)
        try:
            readings = read(sheet, notes)
        except ValueError:
            self._read_apart(sheet, notes)
            return
        if says_all(sheet, readings):
            self._show(sheet.watched, notes, readings)
        else:
            self._read_apart(sheet, notes)

    def _read_apart(self, sheet: Sheet, notes: list[Note]) -> None:
        """Notes of which some do not go with the others: what one caller sends is not to cost another's."""
        alike: defaultdict[Hashable, list[Note]] = defaultdict(list)
        for note in notes:
            alike[shapes_of(sheet, note)].append(note)
        groups = sorted(alike.values(), key=len, reverse=True)
        unread = [note for group in groups[_MOST_SHAPES:] for note in group]
        failed: Exception | None = None
        for group in groups[:_MOST_SHAPES]:
            try:
                readings = read(sheet, group)
            except ValueError as error:
                unread, failed = unread + group, error
            else:
                self._show(sheet.watched, group, readings)
        if unread:
            self._tallies.dropped("notes", sheet.watched.site, sum(note.rows for note in unread))
            log.warning(
                "%d of %d answers of %s are not watched: their shapes cannot be read, or are too many: %s",
                len(unread),
                len(notes),
                sheet.watched.version,
                failed,
            )

    def _show(self, watched: Watched, notes: Sequence[Note], readings: Readings) -> None:
        self._read_now.add(watched, readings)
        for mirror in self._mirrors:
            _guarded(_name(mirror), partial(mirror.mirror, watched, notes, readings))

    def _show_failed(self, note: Note) -> None:
        sheet = self._sheet(note.site, note.model)
        for mirror in self._mirrors:
            _guarded(_name(mirror), partial(mirror.mirror_failed, sheet.watched, note))

    def _read_told(self, site: Site, version: Version, told: list[Told], *, of_numbers: bool) -> None:
        model = self._resident_of(site, version)
        watched = (
            told_of(site, version, of_numbers=of_numbers)
            if model is None
            else self._sheet(site, model).watched
        )
        for at in range(0, len(told), NOTES_AT_ONCE):
            self._read_now.add(watched, read_told(told[at : at + NOTES_AT_ONCE], of_numbers=of_numbers))

    def _sheet(self, site: Site, model: Model) -> Sheet:
        key = site, model.manifest.digest
        sheet = self._sheets.get(key)
        if sheet is None:
            if len(self._sheets) >= _SHEETS:
                self._sheets.clear()
            sheet = self._sheets[key] = sheet_of(site, model, self._baseline_of(site, model))
        return sheet

    def _tick(self) -> None:
        for watched, readings in self._read_this_tick.taken():
            for observer in self._observers:
                _guarded(_name(observer), partial(observer.observe, watched, readings))
        self._tallies.ticked()


def _name(watcher: object) -> str:
    return type(watcher).__name__


def _guarded(what: str, act: Callable[[], None]) -> None:
    """Do it; what it raises is logged, and everything else goes on."""
    try:
        act()
    except Exception:
        log.exception("%s failed; the rest of the monitor goes on", what)
