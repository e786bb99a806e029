"""GSPO (arXiv 2507.18071, eq. 5 and 7): the length-normalised ratio of whole sequences, with its own scale of clip."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from progrpo_cli.methods.base import Method


class Gspo(Method):
    """s_i = (pi(o_i|q) / pi_old(o_i|q))^(1/|o_i|) in the place of the tokens' ratios."""

    name: Literal["gspo"]
    takes_arm: ClassVar[bool] = True

    def trl_options(self) -> dict[str, Any]:
        return {"loss_type": "grpo", "importance_sampling_level": "sequence"}
