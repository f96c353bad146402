"""Looks at a store that may hang, which must not run on the data plane's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from model_sidecar.errors import StoreError

_Result = TypeVar("_Result")

_LOOKERS = 2
_LOOKS = 32
_LOOK_S = 5.0


class StoreLooks:
    """Looks at the store from the loop: few at a time, waited for only so long, and never piling up behind a hang."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_LOOKERS, thread_name_prefix="store-look")
        self._free = threading.BoundedSemaphore(_LOOKS)

    async def look(self, read: Callable[[], _Result]) -> _Result:
        """What `read` returns.

        Raises:
            StoreError: too many looks wait already, or the store does not answer; or whatever `read` raises.
        """
        if not self._free.acquire(blocking=False):
            raise StoreError(f"the store does not answer: {_LOOKS} looks at it are waiting already")
        future = self._pool.submit(read)
        future.add_done_callback(lambda _: self._free.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), _LOOK_S)
        except TimeoutError as error:
            raise StoreError(f"the store has not answered within {_LOOK_S:g} s") from error

    def close(self) -> None:
        """Take no more looks; one that hangs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
