"""GRPO as published (arXiv 2402.03300, eq. 3): the mean over a completion's tokens first, then over completions."""

from __future__ import annotations

from typing import Any, Literal

from progrpo_cli.methods.base import Method
from progrpo_cli.section import NonNegativeFloat


class GrpoClassic(Method):
    """Symmetric clip, per-sequence mean, and eq. 4's KL penalty to the policy that training started from."""

    name: Literal["grpo_classic"]
    kl_coef: NonNegativeFloat
    """beta of eq. 3; 0: no reference policy is kept."""
    arm: None = None

    def trl_options(self) -> dict[str, Any]:
        # TRL would multiply the KL term by the ratio, gradient included, which is a later paper's (2512.02556).
        return {"loss_type": "grpo", "beta": self.kl_coef, "use_bias_correction_kl": False}
