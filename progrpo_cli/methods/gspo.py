"""GSPO (arXiv 2507.18071, eq. 5 and 7): a length-normalised ratio per sequence, with a clip of its own scale."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from progrpo_cli.methods.base import Method


class Gspo(Method):
    """Uses s_i = (pi(o_i|q) / pi_old(o_i|q))^(1/|o_i|) instead of the tokens' ratios."""

    name: Literal["gspo"]
    takes_arm: ClassVar[bool] = True

    def trl_options(self) -> dict[str, Any]:
        return {"loss_type": "grpo", "importance_sampling_level": "sequence"}
