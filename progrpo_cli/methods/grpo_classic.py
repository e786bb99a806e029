"""GRPO as published (arXiv 2402.03300, eq. 3): the loss is averaged over each completion's tokens, then completions."""

from __future__ import annotations

from typing import Any, Literal

from progrpo_cli.methods.base import Method
from progrpo_cli.section import NonNegativeFloat


class GrpoClassic(Method):
    """Symmetric clip, per-sequence mean, and the KL penalty of eq. 4 to the policy that training started from."""

    name: Literal["grpo_classic"]
    kl_coef: NonNegativeFloat
    """beta of eq. 3; with 0 there is no reference policy."""
    arm: None = None

    def trl_options(self) -> dict[str, Any]:
        # TRL's default multiplies the KL term by the ratio, gradient included: a later paper's correction (2512.02556).
        return {"loss_type": "grpo", "beta": self.kl_coef, "use_bias_correction_kl": False}
