"""File events as a hint to look: watches the pointer's directory and the two above it, and renews itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    EVENT_TYPE_DELETED,
    EVENT_TYPE_MOVED,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

from model_sidecar.disk.steps import is_temporary

log = logging.getLogger(__name__)

# The kernel is asked for these and no others: each event costs three threads of watchdog's some Python, and all that an
# order opens, reads, writes and syncs before its version answers would make some thirty. A file that is written in place
# is news when it is closed.
_NEWS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileClosedEvent, FileMovedEvent, FileDeletedEvent),
    *(DirCreatedEvent, DirMovedEvent, DirDeletedEvent),
]


class Watch(FileSystemEventHandler):
    """Calls `wake` when something changes near the pointer, but for files on their way to a name (`disk.steps`).

    The *directory* is watched, never the file: a rename into place and a ConfigMap's swap of `..data` change the
    directory, and a watch on the file would stay with the old one. A directory that is deleted and made again leaves
    its watch dead without a word, so `renew`, called before every look, puts a new one where the inode has changed, or
    where the old one was said to be deleted: file systems such as ext4 give its inode to the new one.
    """

    def __init__(self, pointer: Path, *, wake: Callable[[], None]) -> None:
        self._wake = wake
        directory = pointer.parent
        self._directories = (directory, directory.parent, directory.parent.parent)
        self._watches: dict[Path, tuple[tuple[int, int], ObservedWatch]] = {}
        self._deleted: set[Path] = set()  # added to on watchdog's thread
        self._observer: BaseObserver | None = None
        self._complained = False

    def renew(self) -> None:
        """Watch every directory that is there and not watched yet. Called on the source's thread only."""
        for directory in self._directories:
            try:
                self._renew(directory)
            except OSError as error:
                # Out of watches or descriptors, or a file system without events: the poll goes on without us.
                if not self._complained:
                    log.warning(
                        "no file events for %s (%s): changes are found by polling alone", directory, error
                    )
                self._complained = True

    def stop(self) -> None:
        """Watch no more."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Watchdog's call, on its own thread."""
        if (
            event.event_type == EVENT_TYPE_DELETED
            and (path := Path(os.fsdecode(event.src_path))) in self._directories
        ):
            self._deleted.add(path)
        names = (
            (event.src_path, event.dest_path) if event.event_type == EVENT_TYPE_MOVED else (event.src_path,)
        )
        if not all(is_temporary(Path(os.fsdecode(each))) for each in names):
            self._wake()

    def _renew(self, directory: Path) -> None:
        try:
            found = directory.stat()
        except FileNotFoundError:
            found = None
        identity = (found.st_dev, found.st_ino) if found else None
        known = self._watches.get(directory)
        deleted = directory in self._deleted
        self._deleted.discard(directory)
        if known is not None and (known[0] != identity or deleted):
            del self._watches[directory]
            self._running().unschedule(known[1])
            known = None
        if known is None and identity is not None:
            watch = self._running().schedule(self, str(directory), event_filter=_NEWS)
            self._watches[directory] = (identity, watch)

    def _running(self) -> BaseObserver:
        if self._observer is None:
            # It would hold back half of a rename for half a second where it reads both halves apart, and all that comes
            # behind it. To us either half is news.
            InotifyMoveEventGrouper.delay = 0.0
            self._observer = Observer()
            self._observer.start()
        return self._observer
