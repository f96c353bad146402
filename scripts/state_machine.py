"""Let hypothesis look for a long time for an order of events in which a promise is broken (`make state-machine`).

Prints how often each thing was done. What it finds is printed as the few steps that are needed for it; the same `--seed`
finds it again.

    make state-machine ARGS='--examples 20000 --seed 7'
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from support.machine import Store


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=50, help="of each example, at most")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--quick", action="store_true", help="show what is found as it was found, at length")
    options = parser.parse_args()
    print(f"{options.examples} examples of at most {options.steps} steps, seed {options.seed}", flush=True)
    logging.disable()  # what the sidecars have to say of all this
    began = time.monotonic()
    run_state_machine_as_test(
        seed(options.seed)(Store),
        settings=settings(
            max_examples=options.examples,
            stateful_step_count=options.steps,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if options.quick else [Phase.generate, Phase.shrink],
        ),
    )
    for step, count in Store.steps.most_common():
        print(f"{count:>9,} {step}")
    print(f"{sum(Store.steps.values()):>9,} steps in {time.monotonic() - began:.0f} s: no promise was broken")


if __name__ == "__main__":
    main()
