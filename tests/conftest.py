"""Fixtures for every test: a store to publish into, and the rule that a slow deadlock shows its stacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty store."""
    yard = Yard(tmp_path)
    yard.store.mkdir()
    return yard
