"""Eight operators on four sidecars of one store, with lost replies, stopped and killed processes (`make operators`).

Thousands of deploys and rollbacks; then everything that was answered or read is held against the ledger. Prints what
happened, and what cannot have been.

    make operators ARGS='--orders 20000 --seed 7'
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.operators import Operators
from support.yard import Yard


def main() -> None:
    """Play, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--operators", type=int, default=8)
    parser.add_argument("--sidecars", type=int, default=4)
    parser.add_argument("--orders", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args()
    print(
        f"{options.operators} operators, {options.sidecars} sidecars, {options.orders} orders, seed {options.seed}",
        flush=True,
    )
    logging.disable()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        yard = Yard(Path(root))
        yard.store.mkdir()
        scene = Operators(
            yard,
            operators=options.operators,
            sidecars=options.sidecars,
            orders=options.orders,
            seed=options.seed,
        )
        wrong = asyncio.run(scene.run())
        print(scene.figures())
    for each in wrong[:20]:
        print(f"WRONG: {each}")
    print(f"{time.monotonic() - began:.0f} s; {len(wrong)} things that cannot have been")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
