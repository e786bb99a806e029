"""GRPO with an entropy bonus: the mean token entropy, times a coefficient, is subtracted from the loss."""

from __future__ import annotations

from typing import Any, Literal

from progrpo_cli.methods.base import Method
from progrpo_cli.section import PositiveFloat


class EntropyBonus(Method):
    """L = L_grpo - entropy_coef * H, where H is the policy's mean token entropy in nats (TRL's ``entropy_coef``)."""

    name: Literal["entropy_bonus"]
    entropy_coef: PositiveFloat
    arm: None = None

    def trl_options(self) -> dict[str, Any]:
        return {"entropy_coef": self.entropy_coef}
