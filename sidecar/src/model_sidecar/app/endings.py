"""The signals that end a `serve` process. They are waited for by one thread, and handled by none.

A handler would interrupt any line of the main thread, perhaps one that holds a lock which the handler wants.
"""

from __future__ import annotations

import signal

ENDINGS = frozenset({signal.SIGTERM, signal.SIGINT})


def block() -> None:
    """Keep them from this thread and from all that it starts: before anything is imported that starts threads.

    numpy does so when it is imported, and a signal ends the process by whichever thread takes it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
