"""Sequences whose members are made when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

Part = TypeVar("Part")


class Parts(Sequence[Part]):
    """So many parts, each made whenever somebody looks at it, and gone when he has: few who look need them all."""

    __slots__ = ("_count", "_make")

    def __init__(self, count: int, make: Callable[[int], Part]) -> None:
        """So many, each made from its place."""
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Part: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Part]: ...
    def __getitem__(self, place: int | slice) -> Part | Sequence[Part]:
        if isinstance(place, slice):
            return tuple(self._make(at) for at in range(self._count)[place])
        return self._make(range(self._count)[place])

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Parts) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __iter__(self) -> Iterator[Part]:
        return map(self._make, range(self._count))
