"""How long anybody waits for a store that may hang, as a hard-mounted NFS volume does when its server is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import suppress
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
        self._closed: Future[None] = Future()
        self._hurried: Future[None] = Future()
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
        awaited: list[Future[Any]] = [future, self._closed]
        wait([*awaited, self._hurried], limit_s, FIRST_COMPLETED)
        if self._hurried.done() and not future.done():
            limit_s = min(limit_s, HURRY_S)
            wait(awaited, max(0.0, self._began + limit_s - time.monotonic()), FIRST_COMPLETED)
        if not future.done():
            raise UnfinishedError(_words(f"within {limit_s:g} s"))
        return future.result()

    def hurry(self) -> None:
        """Somebody must not wait: nobody waits for longer than HURRY_S until `calm`. Any thread may call."""
        with suppress(InvalidStateError):
            self._hurried.set_result(None)

    def calm(self) -> None:
        """There is time again."""
        if self._hurried.done():
            self._hurried = Future()

    def close(self) -> None:
        """Begin nothing new; what hangs is not waited for any longer."""
        with suppress(InvalidStateError):
            self._closed.set_result(None)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, work: Callable[[], _Result]) -> Future[_Result]:
        if self._closed.done():
            raise StoreError("the sidecar is going down, and looks at the store no more")
        if self._last is not None and not self._last.done():
            raise StoreError(_words(f"for {time.monotonic() - self._began:.0f} s"))
        self._began = time.monotonic()
        future = self._last = self._pool.submit(work)
        return future


def _words(how_long: str) -> str:
    return f"the store has not answered {how_long}: is it mounted, and its server there?"
