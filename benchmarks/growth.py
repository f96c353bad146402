"""Does it get slower as it is used? By features, versions, scrapes, and by the length of the ledger.

python benchmarks/growth.py [--fast]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from growing import ledgers, requests
from harness.figures import Measured
from harness.load import need_h2load
from harness.results import measured_alone

TITLE = "Does it get slower as it is used? What should be flat may be a quarter more at its largest."


def measure(*, fast: bool = False) -> Measured:
    """All of it; five minutes."""
    need_h2load()
    rounds, seconds = (1, 0.4) if fast else (3, 1.0)
    sizes = (10, 1_000) if fast else (10, 1_000, 10_000, 50_000)
    by_features, features = requests.by_features(rounds=rounds, seconds=seconds)
    starts, start = ledgers.start(sizes=sizes, rounds=1 if fast else 3)
    commits, commit = ledgers.commit(sizes=sizes, rounds=rounds)
    return Measured(
        title=TITLE,
        figures=(
            *by_features,
            *requests.by_versions(rounds=rounds, seconds=seconds),
            *requests.while_scraped(rounds=rounds, seconds=2 * seconds),
            *starts,
            *commits,
        ),
        plots=(features, start, commit),
        notes=(
            (
                "A feature costs its bytes and no more: the echo's request grows by what gRPC takes for them, and the sidecar's by "
                "that, the copy into an array and the model's own work."
            ),
            (
                "Without `--state-dir` a start reads and checks the whole ledger, record by record; with it, a record that was seen before "
                "costs some microseconds."
            ),
            (
                "A commit sees to it that no known record is missing. Where the ledger's directory has not changed since it was listed at "
                "rest, that is known; right behind another commit the directory is listed again."
            ),
        ),
    )


if __name__ == "__main__":
    measured_alone("growth", measure)
