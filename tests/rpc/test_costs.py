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

    costs.worked_on_loop(model, 0.003)
    for _ in range(200):
        costs.worked_on_loop(model, 0.001)
    costs.worked_on_loop(model, 0.003)
    assert on_loop()
    away = []
    for _ in range(4):
        costs.worked_on_loop(model, 0.003)
        begun = clock.now
        while not on_loop():
            clock.now += 0.5
        away.append(clock.now - begun)
    assert away == [1, 8, 64, 512]


def test_a_version_that_was_never_asked_so_much_is_taken_to_cost_what_the_one_before_did() -> None:
    """After a flip, large requests are not refused because the new version was rehearsed with a small one."""
    before, after = ComputedModel("2024.01.15.prod"), ComputedModel("2024.01.16.prod")
    for model in (before, after):
        model.cost_s, model.warm_bytes = 1e-3, 8
    costs, plan = Costs(), plan_of(before.signature)
    large = 16 << 20
    assert costs.in_lane_s(after, plan, large) > 60
    costs.held_lane(before.model, before.manifest.digest, large, 0.04)
    assert costs.in_lane_s(after, plan, large) == 0.04
    costs.held_lane(after.model, after.manifest.digest, large, 0.09)
    assert costs.in_lane_s(after, plan, large) == 0.09
