"""DAPO (arXiv 2503.14476): the shared recipe's surrogate with dynamic sampling and overlong reward shaping."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from progrpo_cli.methods.base import Method
from progrpo_cli.section import Fraction, Natural, PositiveFloat


class Dapo(Method):
    """Samples until every group is mixed (eq. 11: 0 < |right| < G), and penalises length (eq. 13).

    DAPO's asymmetric clip (eq. 10) and token-level loss (eq. 12) are part of the shared recipe.
    """

    name: Literal["dapo"]
    max_refills: Natural
    """Rollouts sampled beyond the first to replace groups that are all right or all wrong; 0: no dynamic sampling."""
    overlong_cache_fraction: Fraction | None
    """L_cache, over which the penalty grows, as a fraction of the token limit L_max; null: no penalty."""
    overlong_penalty: PositiveFloat
    """Penalty at L_max. The paper uses 1 with rewards of 1 and -1 (eq. 7), half their distance."""
    arm: None = None
    drawn: ClassVar[tuple[str, ...]] = ("mixed_fraction", "rollouts_sampled")  # logged only with refills

    def refills(self) -> int:
        return self.max_refills

    def length_reward(self, max_new_tokens: int) -> Callable[[int], float] | None:
        if self.overlong_cache_fraction is None:
            return None
        cache = self.overlong_cache_fraction * max_new_tokens

        def soft_overlong(length: int) -> float:
            """Eq. 13, scaled: 0 up to L_max - L_cache, then linear down to -overlong_penalty at L_max."""
            return -self.overlong_penalty * min(1.0, max(0.0, (length - (max_new_tokens - cache)) / cache))

        return soft_overlong
