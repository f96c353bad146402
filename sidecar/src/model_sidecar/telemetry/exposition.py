"""The text of a scrape, made piece by piece: a scrape in one go holds the interpreter for as long as many predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from model_sidecar.breath import breathe

_END = b"# EOF\n"


@dataclass(frozen=True, slots=True)
class Exposition:
    """A scrape's answer."""

    content_type: str
    body: bytes


def expose(registry: CollectorRegistry, accept: str = "") -> Exposition:
    """Every metric of the registry, in the format that the Accept header asks for.

    `…_created` series are left out: Prometheus stores each as a series of its own, and nobody asks for them.
    """
    encode, content_type = choose_encoder(accept)
    pieces = []
    for family in registry.collect():
        family.samples = [each for each in family.samples if not each.name.endswith("_created")]
        pieces.append(encode(_Only(family)).removesuffix(_END))
        breathe()
    if content_type.startswith("application/openmetrics-text"):
        pieces.append(_END)
    return Exposition(content_type, b"".join(pieces))


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family

    def describe(self) -> Iterable[Metric]:
        return ()
