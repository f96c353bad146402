"""Where log lines go: through a bounded queue to standard error, so that a reader who stalls stalls nobody else."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import sys
import threading
from enum import StrEnum
from typing import TextIO

from model_sidecar.telemetry.lines import JsonLines, TextLines

_QUEUE_LINES = 4096
_TURN_S = 0.1


class LogFormat(StrEnum):
    """How lines look; "auto" is text at a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class Logs(logging.Handler):
    """A handler whose `emit` never waits: a thread of its own writes, and what finds no room is counted and dropped.

    Lines go straight to the file descriptor. `sys.stderr` has a lock, and a thread that is stuck behind a full pipe
    while holding it keeps the whole interpreter from ending.
    """

    def __init__(self, descriptor: int, formatter: logging.Formatter, *, room: int = _QUEUE_LINES) -> None:
        """Begin to write to the descriptor, which stays the caller's; `room` is how many lines may wait."""
        super().__init__()
        self.setFormatter(formatter)
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(room)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many records have found no room and are not yet reported."""
        return self._dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Format here, where the record's facts are still what they were; write elsewhere."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1  # under the handler's own lock, which logging holds around emit
        except Exception:  # noqa: BLE001 - logging's own rule: a record that cannot be shown fails nobody
            self._say_unshowable(record)

    def _say_unshowable(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            problem = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelname": "ERROR",
                    "msg": f"a log record from {record.pathname}:{record.lineno} could not be formatted",
                }
            )
            self._lines.put_nowait(self.format(problem))

    def stop(self, *, timeout_s: float = 1.0) -> None:
        """Take nothing more, and write what is waiting as far as the time allows. May be called twice."""
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self._dropped:
                self._report_drops()

    def _report_drops(self) -> None:
        self.acquire()
        try:
            count, self._dropped = self._dropped, 0
        finally:
            self.release()
        record = logging.makeLogRecord(
            {
                "name": __name__,
                "levelname": "WARNING",
                "msg": f"{count} log records were dropped: whoever reads this log did not keep up",
                "dropped": count,
            }
        )
        self._write(self.format(record))

    def _write(self, line: str) -> None:
        rest = memoryview(line.encode(errors="backslashreplace") + b"\n")
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Somebody who shares the descriptor made it non-blocking.
                select.select([], [self._descriptor], [], _TURN_S)
            except OSError:
                return  # closed, or the reader is gone: there is nobody left to tell


def start_logs(
    *, stream: TextIO | None = None, level: int = logging.INFO, format: LogFormat = LogFormat.AUTO
) -> Logs:
    """Send every logger's records to standard error (or `stream`). The caller stops what it gets.

    A terminal gets colour unless `NO_COLOR` is set.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    formatter: logging.Formatter = JsonLines()
    if format is LogFormat.TEXT or (format is LogFormat.AUTO and terminal):
        formatter = TextLines(colour=terminal and not os.environ.get("NO_COLOR"))
    logs = Logs(stream.fileno(), formatter)
    root = logging.getLogger()
    root.addHandler(logs)
    root.setLevel(level)
    return logs
