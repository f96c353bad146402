"""What ends a run from another thread: one brake per run, pulled by whoever knows that nobody waits any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial


class Brake:
    """Pulled at most once, from any thread, before or amid the run that it belongs to; it stays pulled.

    Attributes:
        pulled: whether the run is to end.
    """

    __slots__ = ("_act", "pulled")

    def __init__(self) -> None:
        self.pulled = False
        self._act: Callable[[], object] | None = None

    def pull(self) -> None:
        """End the run, as soon as the operator then at work is done. A run that has ended hears nothing of it."""
        self.pulled = True
        if self._act is not None:
            self._act()

    def fit(self, act: Callable[[], object]) -> None:
        """The runner's part: `act` stops its work, and may be called twice where the two meet."""
        self._act = act
        # After, not before: whoever pulls between the two finds either the act or, here, that it was pulled.
        if self.pulled:
            act()


def pulled_by_all(brakes: Sequence[Brake]) -> Brake:
    """A brake for a run that all of these belong to: it is pulled once each of them was."""
    common, left = Brake(), set(range(len(brakes)))

    def pulled(which: int) -> None:
        left.discard(which)
        if not left:
            common.pull()

    for number, each in enumerate(brakes):
        each.fit(partial(pulled, number))
    return common
