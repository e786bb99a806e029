"""What ARM costs on SmolLM2-135M: 4 groups of 4, one update a rollout.

ARM's work is the same however many updates follow, and groups this small hold few completions to share a prompt's
confidence: both make its share larger than in a run that one would train.
"""

import _arm_cost

RECIPE = [
    "experiment=smollm",
    "train.prompts_per_rollout=4",
    "train.group_size=4",
    "train.updates_per_rollout=1",
    "task.max_new_tokens=32",
]


def main() -> None:
    cost = _arm_cost.measure(RECIPE, updates=1, rounds=2, rollouts=6)
    print(_arm_cost.shown("SmolLM2-135M, groups of 4, updates_per_rollout=1", cost), flush=True)
