"""Unix sockets put in their place: never another sidecar's, never open to more people than they should be.

gRPC unlinks whatever stands at the path it is told to bind, a living sidecar's socket included. So every socket is
bound under a private name in a directory that only we can enter, given its mode there, and then renamed into place,
after a look whether somebody listens at that place.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model_sidecar.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Placed:
    """A socket of ours at its place."""

    path: Path
    inode: int

    def remove(self) -> None:
        """Take it away, unless another one stands there by now."""
        with suppress(OSError), _locked(self.path.parent):
            if self.path.lstat().st_ino == self.inode:
                self.path.unlink()


@contextmanager
def placing(path: Path, *, mode: int) -> Iterator[str]:
    """Yield a private name for the caller to bind; afterwards that socket stands at `path` with this mode.

    The name is short, whatever the path: socket addresses take no more than 107 bytes. The folder of `path` is
    made if only that is missing, for those whom `mode` lets in.

    Raises:
        ConfigurationError: somebody listens at `path`, or something else than a socket is there, or the folder
            cannot be used.
    """
    parent = path.parent
    with ExitStack() as held:
        try:
            if not parent.exists():
                parent.mkdir(mode=_folder_mode(mode))
            held.enter_context(_locked(parent))
            _refuse_another(path)
            folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{path.name}."))
            held.callback(_cleared, folder)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, descriptor)
        except OSError as error:
            raise ConfigurationError(f"cannot listen on unix:{path}: {error}") from error
        # gRPC unlinks the name it bound when it stops; the descriptor may be another folder's by then, so the name
        # must not be found in that.
        name = secrets.token_hex(8)
        yield f"/proc/self/fd/{descriptor}/{name}"
        try:
            (folder / name).chmod(mode)
            (folder / name).rename(path)
        except OSError as error:
            raise ConfigurationError(f"cannot listen on unix:{path}: {error}") from error


def placed(path: Path) -> Placed:
    """The socket that `placing` put there, to be removed later."""
    return Placed(path, path.lstat().st_ino)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Between looking who listens and renaming, no other sidecar may do the same.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_another(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(
            f"cannot listen on unix:{path}: a file that is no socket stands there; move it away"
        )
    with socket.socket(socket.AF_UNIX) as probe, _descriptor(path.parent) as folder:
        probe.setblocking(False)  # noqa: FBT003 - the socket module's
        try:
            probe.connect(f"/proc/self/fd/{folder}/{path.name}")
        except ConnectionRefusedError:
            return  # its process is gone; renaming ours over it takes its place
        except BlockingIOError:
            pass  # somebody listens and is busy
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on unix:{path}: a socket stands there, and whether somebody listens cannot be told: "
                f"{error}"
            ) from error
    raise ConfigurationError(
        f"another sidecar listens on unix:{path}: stop that one, or name another socket (an address that no option names "
        "is taken from MODEL_SIDECAR_DATA and MODEL_SIDECAR_CONTROL, where they are set)"
    )


@contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _cleared(folder: Path) -> None:
    with suppress(OSError):
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()


def _folder_mode(mode: int) -> int:
    # Whoever may use the socket has to get through its folder.
    return 0o700 | (0o050 if mode & 0o070 else 0) | (0o005 if mode & 0o007 else 0)
