"""The directory of a sidecar's own: where things lie in it, and that no other sidecar uses it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from model_sidecar.errors import ConfigurationError
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.release.names import Environment, ModelName


class StateDirectory:
    """`--state-dir`, made where it is missing, and held as long as the process lives.

    ```
    crash.txt                                   where this process leaves its stacks, should it crash
    crash-before.txt                            the stacks of the last process that crashed
    log/<number>.db                             the prediction log (docs/contract.md, section 6)
    lock                                        held by the sidecar that uses the directory
    kept/<model>/<version>/                     copies of the versions that are live and stand by
    sites/<model>/<environment>/ledger.seen     the ledger as this sidecar has seen it
    sites/<model>/<environment>/guard.jsonl     what the guard decided last
    sites/<model>/<environment>/pending.json    a rollback that is in effect and not recorded yet
    trials/<identity>.json                      what a version did to the processes that ran it
    ```
    """

    def __init__(self, root: Path) -> None:
        """Take it.

        Raises:
            ConfigurationError: it cannot be made or written, or another sidecar uses it.
        """
        self.root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.kept.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigurationError(f"--state-dir {root} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ConfigurationError(
                f"--state-dir {root} is used by another sidecar: each needs one of its own"
            ) from error
        self._lock = lock

    @property
    def kept(self) -> Path:
        """Where copies of versions lie."""
        return self.root / "kept"

    @property
    def trials(self) -> Path:
        """Where it is remembered what versions did to the processes that ran them."""
        return self.root / "trials"

    @property
    def log(self) -> Path:
        """Where the prediction log lies."""
        return self.root / "log"

    @property
    def crash(self) -> Path:
        """The last words of a process that crashes."""
        return self.root / "crash.txt"

    def memory(self, model: ModelName, environment: Environment) -> Memory:
        """What this sidecar remembers of a ledger."""
        return Memory(self._site(model, environment) / "ledger.seen")

    def pending(self, model: ModelName, environment: Environment) -> PendingFile:
        """The rollback that waits to be recorded."""
        return PendingFile(self._site(model, environment) / "pending.json")

    def decisions(self, model: ModelName, environment: Environment) -> Path:
        """What the guard has decided."""
        return self._site(model, environment) / "guard.jsonl"

    def release(self) -> None:
        """Let another sidecar have it."""
        os.close(self._lock)

    def _site(self, model: ModelName, environment: Environment) -> Path:
        return self.root / "sites" / model / environment
