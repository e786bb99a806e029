"""The cost of ARM on SmolLM2-135M: the recipe of ``experiment=smollm`` with one group per rollout.

ARM's work and all other work are proportional to the number of groups, so one group gives the ratio of many.
"""

import _arm_cost

RECIPE = ["experiment=smollm", "train.prompts_per_rollout=1"]


def main() -> None:
    cost = _arm_cost.measure(RECIPE, updates=2, rounds=3, rollouts=3)
    print(_arm_cost.format_cost("SmolLM2-135M, experiment=smollm with a group of 8 a rollout", cost), flush=True)
