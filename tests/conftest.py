"""Fixtures for every test: a store to publish into, and the rule that a slow deadlock shows its stacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before any test imports onnxruntime, which reports to its vendor unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from support.yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty store."""
    yard = Yard(tmp_path)
    yard.store.mkdir()
    return yard
