"""A process that commits: `ledger_writer.py STORE SIDECAR COUNT [directories]`.

Prints `<generation> <request id> <seconds>` for each success.

COUNT 0 goes on until it is killed; `directories` stands for a mount without link(2). The parent sets PYTHONPATH.
"""

import errno
import itertools
import logging
import os
import sys
import time
from pathlib import Path

from support.ledgers import MODEL, PROD, START, A, B, intent

from model_sidecar.disk.calls import Disk
from model_sidecar.errors import ConflictError
from model_sidecar.ledger.face import PointerFace
from model_sidecar.ledger.file_backend import FileBackend
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.record import Writer


class LinklessDisk(Disk):
    """A mount without link(2)."""

    def link(self, source: Path | str, target: Path | str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def main() -> None:
    """Commit COUNT records, each as often as it takes to win."""
    logging.disable(logging.WARNING)  # how records are kept is known, and hundreds of these are started
    store, sidecar, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    directory = store / MODEL / "environments" / PROD
    ledger = Ledger(
        FileBackend(directory / "ledger", disk=LinklessDisk() if "directories" in sys.argv else Disk()),
        PointerFace(directory / "active.json"),
        model=MODEL,
        environment=PROD,
        writer=Writer(sidecar, "host-1", "test"),
        now=lambda: START,
    )
    # All writers begin together, when the parent says so.
    sys.stdin.readline()
    for number in range(count) if count else itertools.count():
        wanted = intent((A, B)[number % 2], request_id=f"{sidecar}-{number}")
        while True:
            head = ledger.refresh()
            began = time.monotonic()
            try:
                commit = ledger.commit(wanted, expected_generation=head.generation if head else 0)
            except ConflictError:
                continue
            took_s = time.monotonic() - began
            os.write(1, f"{commit.record.generation} {wanted.request_id} {took_s:.6f}\n".encode())
            break


if __name__ == "__main__":
    main()
