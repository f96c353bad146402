"""How much memory is left before somebody is killed for it: by this process's control groups, or by the machine.

What a limit counts includes files in the page cache, which the kernel takes back first: those that were not used
lately count as free. Of nested groups the tightest decides. Files and fields are those of the kernel's documentation,
https://docs.kernel.org/admin-guide/cgroup-v2.html and …/cgroup-v1/memory.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60
"""A limit beyond this is none: version 1 says so by the largest number of pages."""


@dataclass(frozen=True, slots=True)
class Left:
    """How many bytes are left, and who says so, in words for people."""

    bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class _Names:
    """What the files of a version of control groups are called."""

    limits: tuple[str, ...]
    used: str
    reclaimable: str


_V2 = _Names(("memory.max", "memory.high"), "memory.current", "inactive_file")
_V1 = _Names(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")


def memory_left(root: Path = Path("/")) -> Left | None:
    """The least of what the machine and each control group of this process have left; None where nothing can be read.

    `root` is where `proc` and `sys` are. Costs a few reads of files in memory.
    """
    found = [left for left in (_of_machine(root), *_of_groups(root)) if left is not None]
    return min(found, key=lambda left: left.bytes, default=None)


def _of_machine(root: Path) -> Left | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return Left(int(line.split()[1]) << 10, "the machine's MemAvailable")
    return None


def _of_groups(root: Path) -> Iterator[Left | None]:
    mounts = list(_mounts(root))
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        for names, top, base in mounts:
            if (names is _V2) != (number == "0") or (names is _V1 and "memory" not in controllers.split(",")):
                continue
            # Inside a container the group may be shown by its path on the host, of which only the end is mounted.
            inside = path.removeprefix(base).strip("/") if base != "/" else path.strip("/")
            group = top / inside if (top / inside).is_dir() else top
            while True:
                yield _of_group(group, names)
                if group == top:
                    break
                group = group.parent


def _mounts(root: Path) -> Iterator[tuple[_Names, Path, str]]:
    """Where control groups that limit memory are mounted, and which group stands at the top of each mount."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, _, kind = line.partition(" - ")
        base, at = mount.split()[3:5]
        match kind.split():
            case ["cgroup2", *_]:
                yield _V2, root / at.lstrip("/"), base
            case ["cgroup", _, options] if "memory" in options.split(","):
                yield _V1, root / at.lstrip("/"), base


def _of_group(group: Path, names: _Names) -> Left | None:
    limits = {name: int(text) for name in names.limits if (text := _read(group / name).strip()).isdecimal()}
    used = _read(group / names.used).strip()
    if not limits or not used.isdecimal() or min(limits.values()) > _UNLIMITED:
        return None
    name = min(limits, key=lambda each: limits[each])
    reclaimable = next(
        (int(line.split()[1]) for line in _read(group / "memory.stat").splitlines() if line.split()[0] == names.reclaimable),
        0,
    )  # fmt: skip
    return Left(max(0, limits[name] - int(used) + reclaimable), f"{group / name}, {limits[name] >> 20} MiB")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
