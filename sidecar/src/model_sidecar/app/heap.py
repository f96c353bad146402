"""What stays for as long as the process does, kept from the garbage collector.

Python's collector looks at everything that there is, now and then, and lets nobody in meanwhile: 23 to 37 ms for the sixty
thousand objects that imports alone make, 1 to 3 ms without them (measured). They never become garbage, so it need not look at
them again.
"""

from __future__ import annotations

import gc

import numpy.ma  # noqa: F401 - numpy's own first `unique` would, on the monitor's thread: 9 ms in which nobody is answered

from model_sidecar.events import Event, Published, Site


class Heap:
    """Says when what there is will stay. `on_event` may be called by any thread."""

    def __init__(self) -> None:
        self._settled: set[Site] = set()

    def settle(self) -> None:
        """Before anybody is answered: nothing is garbage after this that is there now."""
        gc.collect()
        gc.freeze()

    def on_event(self, event: Event) -> None:
        """A listener: at a site's first version the ledger is read, and what answering needs is imported.

        Only at the first: whatever is garbage in a circle by then stays, and that should not add up.
        """
        match event:
            case Published(site=site) if site not in self._settled:
                self._settled.add(site)
                gc.freeze()
            case _:
                pass
