from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.candidates import Candidates


@pytest.fixture
def candidates(tmp_path: Path) -> Iterator[Candidates]:
    """A store of versions to load, closed afterwards."""
    made = Candidates(tmp_path / "ml-models")
    yield made
    made.close()
