"""The cost of ARM on the lab: with the lab's own recipe, and with one update per rollout."""

import _arm_cost


def main() -> None:
    for updates in (2, 1):
        cost = _arm_cost.measure([f"train.updates_per_rollout={updates}"], updates=updates, rounds=4, rollouts=6)
        print(_arm_cost.format_cost(f"the lab, updates_per_rollout={updates}", cost), flush=True)
