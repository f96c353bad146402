"""What a process holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.descriptors import open_descriptors


@dataclass(frozen=True)
class Footprint:
    """What a process holds: bytes of memory, threads, descriptors.

    Attributes:
        kinds: its threads by what they are there for, where its exposition was given; what is no thread of Python's is
            under "".
    """

    memory: int
    threads: int
    descriptors: int
    kinds: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, pid: int, exposition: str | None = None) -> Footprint:
        """As the kernel tells it now, and the process itself by its exposition."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        threads = int(lines["Threads"])
        kinds: Counter[str] = Counter()
        if exposition is not None:
            for family in text_string_to_metric_families(exposition):
                if family.name == "model_sidecar_threads":
                    kinds.update({each.labels["name"]: int(each.value) for each in family.samples})
            kinds[""] = threads - kinds.total()
        return cls(
            memory=int(lines["VmRSS"].split()[0]) * 1024,
            threads=threads,
            descriptors=open_descriptors(pid),
            kinds=kinds,
        )
