"""Nobody waits for a store that hangs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from model_sidecar.errors import StoreError
from model_sidecar.serving.patience import Patience, UnfinishedError

WAIT_S = 20.0


@pytest.fixture
def patience() -> Iterator[Patience]:
    patience = Patience("patience", limit_s=WAIT_S)
    yield patience
    patience.close()


def test_what_ends_in_time_is_as_if_it_were_called(patience: Patience) -> None:
    """The result, or the error, a TimeoutError of its own too."""
    assert patience.call(lambda: 7) == 7

    def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        patience.call(fail)


def test_what_hangs_is_left_behind_and_nothing_is_begun_behind_it(patience: Patience) -> None:
    """Until it ends: then what it did is done, and work is taken again."""
    gate, done, begun = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        gate.wait(WAIT_S)
        done.set()

    with pytest.raises(UnfinishedError):
        patience.call(hang, limit_s=0.01)
    with pytest.raises(StoreError, match="has not answered for") as refused:
        patience.call(begun.set)
    assert not isinstance(refused.value, UnfinishedError)
    assert not begun.is_set()

    gate.set()
    assert done.wait(WAIT_S)
    end = time.monotonic() + WAIT_S
    while not begun.is_set() and time.monotonic() < end:
        with contextlib.suppress(StoreError):  # the hanging work is just ending
            patience.call(begun.set)
    assert begun.is_set()


def test_closing_ends_the_waiting(patience: Patience) -> None:
    """Whoever waits for a store that hangs is let go at once when the sidecar stops, and nothing new is begun."""
    gate, hangs = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        gate.wait(WAIT_S)

    def close() -> None:
        hangs.wait(WAIT_S)
        patience.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(UnfinishedError):
        patience.call(hang)
    closer.join()
    with pytest.raises(StoreError, match="going down"):
        patience.call(lambda: 7)
    gate.set()
