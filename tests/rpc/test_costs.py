"""What predictions are expected to cost, and which versions are kept off the loop."""

from __future__ import annotations

from support.rpc_models import ComputedModel

from model_sidecar.rpc.costs import Costs
from model_sidecar.rpc.plan import plan_of


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_version_that_was_slow_once_is_soon_back_on_the_loop_and_one_that_stays_slow_is_not() -> None:
    """One long run may be the machine's fault; a model whose cost is in its values shows it again and again."""
    clock, model = _Clock(), ComputedModel()
    costs, plan = Costs(clock=clock), plan_of(model.signature)

    def on_loop() -> bool:
        return costs.on_loop_s(model, plan, 64) != float("inf")

    costs.worked_on_loop(model, 0.001)
    assert on_loop()
    away = []
    for _ in range(4):
        costs.worked_on_loop(model, 0.003)
        begun = clock.now
        while not on_loop():
            clock.now += 0.5
        away.append(clock.now - begun)
    assert away == [1, 8, 64, 512]
