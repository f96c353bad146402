"""What the guard has decided, kept: the last twenty of each site, through restarts where there is a place for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from model_sidecar.config import GuardMode
from model_sidecar.disk.calls import Disk
from model_sidecar.disk.steps import make_directories, read_file, replace_file
from model_sidecar.events import Site
from model_sidecar.release import strict_json

log = logging.getLogger(__name__)

KEPT = 20
_MAX_BYTES = 1 << 20
PathOf = Callable[[Site], Path | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecision:
    """One decision; the fields are those of the message (proto/model_sidecar/v1/feedback.proto). `time` is aware."""

    time: datetime
    decision: str
    trigger: str
    version: str
    target: str
    generation: int
    evidence_log10: float
    message: str


class Decisions:
    """The guard's memory, and what others are shown of it. Any thread may call.

    Attributes:
        mode: whether it acts.
    """

    def __init__(
        self, mode: GuardMode, *, path_of: PathOf = lambda _site: None, disk: Disk | None = None
    ) -> None:
        """`path_of` is where a site's are kept; None: nowhere."""
        self.mode = mode
        self._path_of = path_of
        self._disk = disk or Disk()
        self._writing = threading.Lock()  # held over the disk, by those who add; taken before _lock
        self._lock = threading.Lock()  # guards _of; only the first to read a site waits for the disk with it
        self._of: dict[Site, list[GuardDecision]] = {}

    def add(self, site: Site, decision: GuardDecision) -> None:
        """Keep it; where that fails, until the process ends."""
        with self._lock:
            known = self._known(site)
            known.append(decision)
            del known[:-KEPT]
        path = self._path_of(site)
        if path is None:
            return
        with self._writing:
            # What is known by now, so that whoever writes last writes all of it.
            content = b"".join(strict_json.dumps(_document(each)) for each in reversed(self.recent(site)))
            try:
                make_directories(self._disk, path.parent)
                replace_file(self._disk, path, content)
            except OSError as error:
                log.warning("the guard's decisions cannot be kept in %s: %s", path, error.strerror)

    def recall(self, site: Site) -> None:
        """Read what is kept of it: whoever asks afterwards waits for no disk."""
        with self._lock:
            self._known(site)

    def recent(self, site: Site) -> tuple[GuardDecision, ...]:
        """The last ones, newest first."""
        with self._lock:
            return tuple(reversed(self._known(site)))

    def _known(self, site: Site) -> list[GuardDecision]:
        if site not in self._of:
            self._of[site] = self._read(site)
        return self._of[site]

    def _read(self, site: Site) -> list[GuardDecision]:
        path = self._path_of(site)
        if path is None:
            return []
        try:
            content = read_file(self._disk, path, limit=_MAX_BYTES, follow_symlink=False).content or b""
            return [_decision(strict_json.loads(line)) for line in content.splitlines()][-KEPT:]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the guard's decisions in %s cannot be read, and are begun anew: %s", path, error)
            return []


def _document(decision: GuardDecision) -> dict[str, object]:
    return {**asdict(decision), "time": decision.time.isoformat()}


def _decision(document: Any) -> GuardDecision:
    return GuardDecision(**{**document, "time": datetime.fromisoformat(document["time"])})
