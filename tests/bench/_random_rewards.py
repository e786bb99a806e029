"""progrpo's command line with a fair coin instead of the judge: a control of lab_controls.py."""

import random
from typing import Any

from progrpo_cli.training import run


def _coin_rewards(config: Any, *_: Any) -> list[Any]:
    rng = random.Random(f"coins-{config.seed}")

    def correctness(completions: list[Any], **_: Any) -> list[float]:
        return [float(rng.random() < 0.5) for _ in completions]

    return [correctness]


if __name__ == "__main__":
    from progrpo_cli import main

    run.reward_functions = _coin_rewards
    main.run()
