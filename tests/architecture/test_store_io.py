"""The store is touched in one room only, so that a test that stands in for the disk sees all of it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import model_sidecar

SOURCES = Path(model_sidecar.__file__).parent
# Memory of this process's own: no store.
NO_STORE = {SOURCES / "store" / "private.py"}
# Constants, types, and what looks at values only.
HARMLESS = {"fspath", "path.samestat", "stat_result", "statvfs_result"} | {
    name for name in dir(os) if name.isupper()
}
MODULES = {"fcntl", "glob", "io", "mmap", "shutil", "tempfile"}
# Methods of `Path` that ask or change a file system, and of nothing else that these rooms use.
METHODS = {
    *("chmod", "exists", "glob", "hardlink_to", "is_dir", "is_file", "is_symlink", "iterdir", "lstat"),
    *("mkdir", "open", "read_bytes", "read_text", "readlink", "rename", "resolve", "rglob", "rmdir"),
    *("samefile", "stat", "symlink_to", "touch", "unlink", "walk", "write_bytes", "write_text"),
}


def calls_past_the_disk(source: str) -> Iterator[str]:
    """What in this source reaches for a file system without a `Disk`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name("os"), attr=name) if name not in HARMLESS | {"path"}:
                yield f"{node.lineno}: os.{name}"
            case ast.Attribute(value=ast.Attribute(value=ast.Name("os"), attr="path"), attr=name) if (
                f"path.{name}" not in HARMLESS
            ):
                yield f"{node.lineno}: os.path.{name}"
            case ast.Call(func=ast.Name("open")):
                yield f"{node.lineno}: open"
            case ast.Call(func=ast.Attribute(value=whose, attr=name)) if name in METHODS and not is_disk(
                whose
            ):
                yield f"{node.lineno}: .{name}()"
            # Those of strings and dates have two arguments, or keywords.
            case ast.Call(func=ast.Attribute(attr="replace"), args=[_], keywords=[]):
                yield f"{node.lineno}: .replace()"
            case ast.ImportFrom(module="os" | "os.path"):
                yield f"{node.lineno}: from os import"
            case ast.Import(names=names):
                yield from (f"{node.lineno}: {each.name}" for each in names if each.name in MODULES)
            case ast.ImportFrom(module=module) if module in MODULES:
                yield f"{node.lineno}: {module}"


def is_disk(whose: ast.expr) -> bool:
    return (isinstance(whose, ast.Name) and whose.id == "disk") or (
        isinstance(whose, ast.Attribute) and whose.attr in ("disk", "_disk")
    )


def test_ledger_and_store_reach_the_file_system_through_a_disk_only() -> None:
    """No module of these rooms calls the operating system itself, by os, pathlib, shutil or open."""
    modules = {path for room in ("ledger", "store") for path in (SOURCES / room).rglob("*.py")} - NO_STORE
    assert len(modules) > 15
    past = {path.name: [*calls_past_the_disk(path.read_text())] for path in modules}
    assert {name: calls for name, calls in past.items() if calls} == {}


def test_a_call_past_the_disk_is_seen() -> None:
    """Each way round the disk is found; calls through one, and constants, are not."""
    ways = (
        *(
            "os.open(path, os.O_RDONLY)",
            "os.fsync(fd)",
            "os.path.exists(path)",
            "open(path)",
            "path.exists()",
        ),
        *(
            "self._path.unlink()",
            "import shutil",
            "from os import rename",
            "path.replace(other)",
            "from tempfile import mkdtemp",
        ),
    )
    for way in ways:
        assert [*calls_past_the_disk(way)], way
    assert not [
        *calls_past_the_disk("disk.open(p, os.O_RDONLY)\nself._disk.rename(a, b)\nself.disk.fsync(fd)")
    ]
