"""How long anybody waits for a store that may hang, as a hard-mounted NFS volume does when its server is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from model_sidecar.errors import StoreError

_Result = TypeVar("_Result")

LIMIT_S = 5.0
"""Longer than any store takes that works at all, and short enough for an operator at the other end."""
HURRY_S = 0.5
"""How long an order that could do without the store waits to hear from it, and holds up another."""


class UnfinishedError(StoreError):
    """Work that was begun has not ended in time, and may still do what it was to do."""


class Patience:
    """Does blocking work on a thread of its own, and waits for it only so long. One thread at a time may call.

    Work that hangs cannot be stopped: its thread is left with it, and as long as it hangs, all further work is refused at
    once, so that nothing piles up behind it. Once it ends, whatever it did is done.
    """

    def __init__(self, name: str, *, limit_s: float = LIMIT_S) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._limit_s = limit_s
        self._closed = self._hurried = False
        self._news = threading.Event()  # whoever waits looks again, for what is set above or below
        self._last: Future[Any] | None = None
        self._began = 0.0

    def call(self, work: Callable[[], _Result], *, limit_s: float | None = None) -> _Result:
        """What `work` returns or raises.

        Raises:
            UnfinishedError: it has not ended within the limit, or by the time of `close`, and goes on.
            StoreError: earlier work hangs, so that this was not begun.
        """
        future = self._begin(work)
        limit_s = self._limit_s if limit_s is None else limit_s
        while not (future.done() or self._closed):
            if self._hurried:
                limit_s = min(limit_s, HURRY_S)
            if not self._news.wait(max(0.0, self._began + limit_s - time.monotonic())):
                break
            self._news.clear()
        if not future.done():
            raise UnfinishedError(_words(f"within {limit_s:g} s"))
        return future.result()

    def hurry(self) -> None:
        """Somebody must not wait: nobody waits for longer than HURRY_S until `calm`. Any thread may call."""
        self._hurried = True
        self._news.set()

    def calm(self) -> None:
        """There is time again."""
        self._hurried = False

    def close(self) -> None:
        """Begin nothing new; what hangs is not waited for any longer."""
        self._closed = True
        self._news.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, work: Callable[[], _Result]) -> Future[_Result]:
        if self._closed:
            raise StoreError("the sidecar is going down, and looks at the store no more")
        if self._last is not None and not self._last.done():
            raise StoreError(_words(f"for {time.monotonic() - self._began:.0f} s"))
        self._began = time.monotonic()
        future = self._last = self._pool.submit(work)
        future.add_done_callback(lambda _: self._news.set())
        return future


def _words(how_long: str) -> str:
    return f"the store has not answered {how_long}: is it mounted, and its server there?"
