"""File systems of several kinds, mounted for a while by whoever may (root), and unmounted in every case."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_SIZE = "256m"
_UNMOUNT_TRIES = 50


class NotMountedError(Exception):
    """This kind cannot be mounted here; the message says why."""


@contextmanager
def mounted(kind: str, scratch: Path) -> Iterator[Path]:
    """A directory on a fresh file system of this kind (one of KINDS), with everything it needs below `scratch`.

    Raises:
        NotMountedError: not here.
    """
    place = scratch / "mounted"
    place.mkdir(parents=True)
    with ExitStack() as leaving:
        KINDS[kind](scratch, place, leaving)
        yield place


def _plain(_scratch: Path, _place: Path, _leaving: ExitStack) -> None:
    pass


def _tmpfs(_scratch: Path, place: Path, leaving: ExitStack) -> None:
    _mount("-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", place, leaving=leaving)


def _ext4(scratch: Path, place: Path, leaving: ExitStack) -> None:
    image = scratch / "image"
    _run("truncate", "-s", _SIZE, image)
    _run("mkfs.ext4", "-q", "-F", image)
    _mount("-o", "loop", image, place, leaving=leaving)


def _overlay(scratch: Path, place: Path, leaving: ExitStack) -> None:
    layers = [scratch / name for name in ("lower", "upper", "work")]
    for layer in layers:
        layer.mkdir()
    lower, upper, work = layers
    _mount(
        *("-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", place),
        leaving=leaving,
    )


def _bindfs(scratch: Path, place: Path, leaving: ExitStack) -> None:
    behind = scratch / "behind"
    behind.mkdir()
    _run("bindfs", behind, place)
    leaving.callback(_unmount, place)


KINDS: dict[str, Callable[[Path, Path, ExitStack], None]] = {
    "plain disk": _plain,
    "ext4 (loop)": _ext4,
    "overlayfs": _overlay,
    "tmpfs": _tmpfs,
    "FUSE (bindfs)": _bindfs,
}


def _mount(*arguments: str | Path, leaving: ExitStack) -> None:
    _run("mount", *arguments)
    leaving.callback(_unmount, Path(arguments[-1]))


def _unmount(place: Path) -> None:
    # Whatever was killed a moment ago may still hold it.
    for _ in range(_UNMOUNT_TRIES):
        if (
            subprocess.run(
                ["umount", place],  # noqa: S607 - wherever it is on PATH
                capture_output=True,
                check=False,
            ).returncode
            == 0
        ):
            return
        time.sleep(0.1)
    _run("umount", "--lazy", place)


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NotMountedError(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise NotMountedError(f"{command[0]}: {error.stderr.strip()}") from error
