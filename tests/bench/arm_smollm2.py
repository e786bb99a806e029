"""What ARM costs on SmolLM2-135M: the recipe of ``experiment=smollm``, with one group a rollout.

ARM's work and everything else grow with the number of groups alike: one group has the ratio of many, in a minute.
"""

import _arm_cost

RECIPE = ["experiment=smollm", "train.prompts_per_rollout=1"]


def main() -> None:
    cost = _arm_cost.measure(RECIPE, updates=2, rounds=3, rollouts=3)
    print(_arm_cost.shown("SmolLM2-135M, experiment=smollm with a group of 8 a rollout", cost), flush=True)
