"""Two things or more in turns: A B, B A, A B … so that the machine's weather falls on all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

_Found = TypeVar("_Found")


def in_turns(ways: Mapping[str, Callable[[], _Found]], *, rounds: int) -> dict[str, list[_Found]]:
    """What each way found, round by round; every other round goes through them backwards."""
    found: dict[str, list[_Found]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways) if number % 2 == 0 else list(ways)[::-1]
        for name in names:
            found[name].append(ways[name]())
    return found
