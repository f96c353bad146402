"""What is left of memory, by the files of control groups as kernels write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from model_sidecar.app.headroom import memory_left

MIB = 1 << 20
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)
V1_PART = "35 31 0:32 /docker /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
V1_CONTAINER = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
MACHINE = f"MemTotal: 1 kB\nMemAvailable: {900 << 10} kB\n"


def v2(used: int, *, at_most: str = "max", high: str = "max", inactive: int = 0) -> dict[str, str]:
    """A version 2 group's files; sizes in MiB."""
    return {
        "memory.current": f"{used * MIB}\n",
        "memory.max": f"{at_most if at_most == 'max' else int(at_most) * MIB}\n",
        "memory.high": f"{high if high == 'max' else int(high) * MIB}\n",
        "memory.stat": f"anon 1\ninactive_file {inactive * MIB}\nactive_file {5 * MIB}\n",
    }


def v1(used: int, *, at_most: int | None, inactive: int = 0) -> dict[str, str]:
    """A version 1 group's files; sizes in MiB."""
    return {
        "memory.usage_in_bytes": f"{used * MIB}\n",
        "memory.limit_in_bytes": f"{at_most * MIB if at_most is not None else 9223372036854771712}\n",
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive * MIB}\n",
    }


def machine(
    root: Path, *, cgroup: str, mounts: str, groups: Mapping[str, Mapping[str, str]], meminfo: str = MACHINE
) -> Path:
    """A machine's `proc` and `sys`, as far as they are read."""
    files = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, "proc/meminfo": meminfo}
    for group, contents in groups.items():
        files |= {f"sys/fs/cgroup/{group}/{name}": text for name, text in contents.items()}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "left"),
    [
        ({"": {}, "pod": v2(100), "pod/app": v2(100)}, 900),
        ({"": {}, "pod": v2(100), "pod/app": v2(100, at_most="300")}, 200),
        ({"": {}, "pod": v2(100), "pod/app": v2(100, at_most="300", high="250")}, 150),
        ({"": {}, "pod": v2(250, at_most="400"), "pod/app": v2(100, at_most="300")}, 150),
        ({"": {}, "pod": v2(100), "pod/app": v2(280, at_most="300", inactive=50)}, 70),
        ({"": {}, "pod": v2(100), "pod/app": v2(310, at_most="300")}, 0),
        ({"": {}, "pod": v2(100), "pod/app": v2(0, at_most="5000")}, 900),
    ],
    ids=["none", "max", "high", "parent", "page cache", "over", "machine"],
)
def test_the_tightest_group_decides(tmp_path: Path, groups: dict[str, dict[str, str]], left: int) -> None:
    """Of a group's limits, its parents' and the machine's, the least; page cache that was not used lately is free."""
    root = machine(tmp_path, cgroup="0::/pod/app\n", mounts=V2, groups=groups)

    found = memory_left(root)

    assert found is not None
    assert found.bytes == left * MIB


@pytest.mark.parametrize(
    ("mounts", "groups", "left"),
    [
        (V1, {"memory/docker/abc": v1(100, at_most=None), "memory": v1(1, at_most=None)}, 900),
        (V1, {"memory/docker/abc": v1(100, at_most=300, inactive=20), "memory": v1(1, at_most=None)}, 220),
        (V1, {"memory/docker/abc": v1(1, at_most=300), "memory/docker": v1(190, at_most=200)}, 10),
        (V1_PART, {"memory/abc": v1(100, at_most=150), "memory": v1(100, at_most=300)}, 50),
        (V1_CONTAINER, {"memory": v1(100, at_most=300)}, 200),
    ],
    ids=["none", "limit", "parent", "a part is mounted", "inside a container"],
)
def test_version_1_groups_are_read_too(
    tmp_path: Path, mounts: str, groups: dict[str, dict[str, str]], left: int
) -> None:
    """Also where the group is named by its path on the host, and the container sees but the end of it."""
    cgroup = "8:pids:/docker/abc\n4:memory:/docker/abc\n1:cpu:/docker/abc\n0::/docker/abc\n"
    root = machine(tmp_path, cgroup=cgroup, mounts=mounts, groups=groups)

    found = memory_left(root)

    assert found is not None
    assert found.bytes == left * MIB


def test_the_source_is_told(tmp_path: Path) -> None:
    """Whoever is refused for want of memory is told which limit it is."""
    groups = {"": {}, "pod": v2(100, at_most="300")}
    root = machine(tmp_path, cgroup="0::/pod\n", mounts=V2, groups=groups)

    found = memory_left(root)

    assert found is not None
    assert found.source == f"{root}/sys/fs/cgroup/pod/memory.max, 300 MiB"


def test_where_nothing_can_be_read_nothing_is_known(tmp_path: Path) -> None:
    """Another system than Linux sets no bound."""
    assert memory_left(tmp_path) is None


def test_this_machine_says_something() -> None:
    """The real files are read."""
    found = memory_left()

    assert found is not None
    assert 0 < found.bytes < 1 << 50
