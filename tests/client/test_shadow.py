"""How a shadow is asked for, without a sidecar: the message, and how long it is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from model_sidecar_client import InvalidRequestError, Shadow, deployment
from model_sidecar_client.exchange import Ask


def asked(shadow: Shadow | None) -> Any:
    ask = next(
        deployment.deploy(
            "recommendation-v1",
            "2024.01.15.prod",
            environment="prod",
            reason="",
            expected_generation=None,
            request_id=None,
            validate_only=False,
            allow_schema_change=False,
            on_behalf_of="",
            source_commit="",
            shadow=shadow,
        )
    )
    assert isinstance(ask, Ask)
    return ask.request


def test_what_is_not_said_of_a_shadow_is_left_to_the_sidecar() -> None:
    """Only the limits that were given are sent."""
    plan = asked(Shadow(duration_s=90.5, max_slowdown=3)).shadow

    assert (plan.duration.seconds, plan.duration.nanos, plan.max_slowdown) == (90, 500_000_000, 3)
    assert not plan.HasField("max_disagreement")
    assert not plan.HasField("min_predictions")
    assert not asked(None).HasField("shadow")


def test_a_shadow_is_waited_for_besides_the_deploy() -> None:
    """Five minutes of shadow do not run into a deadline of one."""
    assert deployment.with_shadow(60, Shadow(duration_s=300)) == 360
    assert deployment.with_shadow(60, None) == 60


@pytest.mark.parametrize(
    "shadow",
    [
        Shadow(duration_s=0),
        Shadow(duration_s=float("nan")),
        Shadow(duration_s=1e9),
        Shadow(duration_s=5, min_predictions=-1),
    ],
)
def test_a_shadow_that_makes_no_sense_is_refused_here(shadow: Shadow) -> None:
    """With our error, before anything is sent."""
    with pytest.raises(InvalidRequestError):
        asked(shadow)
