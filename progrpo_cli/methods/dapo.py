"""DAPO (arXiv 2503.14476): the shared recipe's surrogate with dynamic sampling and overlong reward shaping."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from progrpo_cli.methods.base import Method
from progrpo_cli.section import Fraction, Natural, PositiveFloat


class Dapo(Method):
    """Eq. 11's constraint 0 < |right| < G by sampling until every group is mixed; eq. 13's penalty on length.

    What else is DAPO's, the asymmetric clip (eq. 10) and the token-level loss (eq. 12), is in the shared recipe.
    """

    name: Literal["dapo"]
    max_refills: Natural
    """Rollouts sampled beyond the first to replace groups that are all right or all wrong; 0: no dynamic sampling."""
    overlong_cache_fraction: Fraction | None
    """L_cache as a part of the token limit L_max, over which the penalty grows; null: no shaping."""
    overlong_penalty: PositiveFloat
    """At L_max. The paper's is 1 beside rewards of 1 and -1 (eq. 7): half the distance between right and wrong."""
    arm: None = None
    drawn: ClassVar[tuple[str, ...]] = ("mixed_fraction", "rollouts_sampled")  # logged where there are refills

    def refills(self) -> int:
        return self.max_refills

    def length_reward(self, max_new_tokens: int) -> Callable[[int], float] | None:
        if self.overlong_cache_fraction is None:
            return None
        cache = self.overlong_cache_fraction * max_new_tokens

        def soft_overlong(length: int) -> float:
            """Eq. 13, scaled: 0 up to L_max - L_cache, then a line down to -overlong_penalty at L_max."""
            return -self.overlong_penalty * min(1.0, max(0.0, (length - (max_new_tokens - cache)) / cache))

        return soft_overlong
