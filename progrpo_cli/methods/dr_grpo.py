"""Dr. GRPO (arXiv 2503.20783, section 3.2): no division by the group's std, and a constant length normaliser."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from progrpo_cli.methods.base import Method


class DrGrpo(Method):
    """A_i = r_i - mean(r). The sum of the token losses is divided by the completions times the token limit."""

    name: Literal["dr_grpo"]
    takes_arm: ClassVar[bool] = True

    def trl_options(self) -> dict[str, Any]:
        return {"loss_type": "dr_grpo", "scale_rewards": "none"}
