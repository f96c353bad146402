"""`model-sidecar` with a thread besides that only looks at the clock.

python ticking_sidecar.py FILE serve …: the longest stall is told in FILE (`harness.ticker`).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.ticker import Longest, Ticker
from model_sidecar.app import endings
from model_sidecar.cli.main import main

if __name__ == "__main__":
    endings.block()  # before there are threads, as the command does
    Ticker(Longest.in_file(Path(sys.argv[1]))).start()
    main(sys.argv[2:], prog_name="model-sidecar")
