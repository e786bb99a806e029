"""ARM in plain Python, written from the equations of docs/method.md. It imports nothing from the package."""

import math
from fractions import Fraction
from statistics import mean


def confidence(logps: list[float], rho: float) -> float:
    """exp of the mean of the ceil(rho * n) lowest of n log-probabilities; NaN if n is 0.

    Tokens that could not be scored (NaN) are dropped. The fraction is exact: 0.07 of 100 tokens are 7.
    """
    scored = sorted(value for value in logps if not math.isnan(value))
    if not scored:
        return math.nan
    lowest = scored[: math.ceil(Fraction(str(rho)) * len(scored))]
    return math.exp(sum(lowest) / len(lowest))


def prompt_confidence(logps: list[float | None], rho: float) -> float:
    """c(q) from the log-probabilities of all prompt tokens. The first is ignored because it has no prediction."""
    return confidence(logps[1:], rho)


def group_advantages(rewards: list[float]) -> list[float]:
    """A_i = (r_i - mean) / (std + 1e-4) with Bessel's correction; a NaN is left out of both and gets 0."""
    known = [reward for reward in rewards if not math.isnan(reward)]
    if not known:
        return [0.0] * len(rewards)
    centre = mean(known)
    variance = sum((reward - centre) ** 2 for reward in known) / max(1, len(known) - 1)
    return [0.0 if math.isnan(r) else (r - centre) / (math.sqrt(variance) + 1e-4) for r in rewards]


def reweight(
    advantages: list[float],
    c_q: list[float],
    c_o: list[float],
    correctness: list[float],
    *,
    alpha: float,
    gate: str,
    scope: str,
) -> list[float]:
    """A~_i of one group: A_i + alpha (c(q) - c(o_i|q)) for the samples that gate and scope select.

    ``correctness`` is 1, 0 or NaN (not scored). A sample with NaN, or without a confidence, keeps A_i.
    """
    right = [value == 1 for value in correctness]
    is_open = any(right) and (gate == "any_correct" or not all(right))
    result = []
    for a, q, o, value, is_right in zip(advantages, c_q, c_o, correctness, right, strict=True):
        selected = is_open and (scope == "all" or is_right)
        has_shift = not (math.isnan(value) or math.isnan(q) or math.isnan(o))
        result.append(a + alpha * (q - o) if selected and has_shift else a)
    return result
