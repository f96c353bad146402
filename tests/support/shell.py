"""What processes need to find these packages, wherever they run."""

from __future__ import annotations

import os
from pathlib import Path


def as_started(**variables: str) -> dict[str, str]:
    """This process's environment, with a PYTHONPATH that holds in other directories too, and no settings of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODEL_SIDECAR_")}
    if "PYTHONPATH" in kept:
        kept["PYTHONPATH"] = os.pathsep.join(
            str(Path(each).absolute()) for each in kept["PYTHONPATH"].split(os.pathsep)
        )
    return {**kept, **variables}
