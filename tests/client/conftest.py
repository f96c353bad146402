"""A stand-in sidecar, and a client and an operator of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model_sidecar_client import Client, Operator
from model_sidecar_client.testing import StandInSidecar


@pytest.fixture
def sidecar() -> Iterator[StandInSidecar]:
    with StandInSidecar() as running:
        yield running


@pytest.fixture
def client(sidecar: StandInSidecar) -> Iterator[Client]:
    with Client(sidecar.target) as connected:
        yield connected


@pytest.fixture
def operator(sidecar: StandInSidecar) -> Iterator[Operator]:
    with Operator(sidecar.target) as connected:
        yield connected
