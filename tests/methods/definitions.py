"""Each method's loss in plain Python, from its paper's definition: the value, and its slope by each token's log p.

Nothing of the package is imported. A batch is a list of rows as ``replay.Row`` has them, groups of ``SIZE`` in a row.
"""

import math
from itertools import combinations
from statistics import mean

import arm_reference

SIZE = 4
LIMIT = 30
Slopes = list[list[float]]


def groups(rows: list) -> list[list]:
    return [rows[start : start + SIZE] for start in range(0, len(rows), SIZE)]


def of_groups(rows: list, of_group) -> list[float]:
    return [value for group in groups(rows) for value in of_group(group)]


def reward(row) -> float:
    return float(row.correct)


# Advantages


def grpo_advantages(rows: list) -> list[float]:
    return of_groups(rows, lambda group: arm_reference.group_advantages([reward(row) for row in group]))


def centred(rows: list) -> list[float]:
    """Dr. GRPO, section 3.2: no division by the standard deviation."""
    return of_groups(rows, lambda group: [reward(row) - mean(map(reward, group)) for row in group])


def arm(rows: list, advantages: list[float], c_q: dict[str, float], alpha: float, rho: float = 0.2) -> list[float]:
    """ARM on ``advantages``, by the policy that sampled; ``c_q`` by prompt."""
    result = []
    for group, of_group in zip(groups(rows), groups(advantages), strict=True):
        c_o = [arm_reference.confidence(row.old, rho) for row in group]
        given = [c_q[row.prompt] for row in group], c_o, [reward(row) for row in group]
        result += arm_reference.reweighted(of_group, *given, alpha=alpha, gate="any_correct", scope="all")
    return result


def passk_advantages(rows: list, k: int) -> list[float]:
    """2508.10751, section 2.4, by going through all subsets of k: the mean over those that a sample is in."""

    def of_group(group: list) -> list[float]:
        subsets = list(combinations(range(SIZE), k))
        scores = [float(any(group[i].correct for i in subset)) for subset in subsets]
        centre = mean(scores)
        deviation = math.sqrt(mean((score - centre) ** 2 for score in scores))
        if deviation == 0:
            return [0.0] * SIZE
        standing = [(score - centre) / deviation for score in scores]
        return [mean(s for s, subset in zip(standing, subsets, strict=True) if i in subset) for i in range(SIZE)]

    return of_groups(rows, of_group)


def unlikeliness_advantages(rows: list, beta: float) -> list[float]:
    """2506.02355: r (1 - beta (G - rank) / G) for right samples, rank 0 the most likely, then GRPO's.

    The authors' script trains on no group that is all right.
    """

    def of_group(group: list) -> list[float]:
        if all(row.correct for row in group):
            return [0.0] * SIZE
        likeliest_first = sorted(group, key=lambda row: -sum(row.old))
        rank = {row.text: place for place, row in enumerate(likeliest_first)}
        rewards = [reward(row) * (1 - beta * (SIZE - rank[row.text]) / SIZE) for row in group]
        return arm_reference.group_advantages(rewards)

    return of_groups(rows, of_group)


def dapo_advantages(rows: list, cache: float, penalty: float) -> list[float]:
    """2503.14476, eq. 13 added to the reward, then eq. 9; the penalty in units of our reward."""

    def length(row) -> float:
        over = len(row.logps) - (LIMIT - cache)
        return -penalty * min(1.0, over / cache) if over > 0 else 0.0

    return of_groups(rows, lambda group: arm_reference.group_advantages([reward(r) + length(r) for r in group]))


# Losses: (value, slopes)


def clipped(ratio: float, advantage: float, low: float, high: float) -> tuple[float, float]:
    """-min(ratio A, clip(ratio) A) and its slope by log p, which is ratio A where the first is the smaller, else 0."""
    bounded = min(max(ratio, 1 - low), 1 + high) * advantage
    free = ratio * advantage
    return -min(free, bounded), -free if free <= bounded else 0.0


def token_level(rows: list, advantages: list[float], low: float = 0.2, high: float = 0.28) -> tuple[float, Slopes]:
    """The shared recipe: the mean over all tokens (2503.14476, eq. 12)."""
    return _surrogate(rows, advantages, low, high, lambda row: 1 / sum(len(other.logps) for other in rows))


def sequence_level(rows: list, advantages: list[float], low: float, high: float) -> tuple[float, Slopes]:
    """2402.03300, eq. 3: the mean over a completion's tokens, then over completions."""
    return _surrogate(rows, advantages, low, high, lambda row: 1 / len(row.logps) / len(rows))


def constant(rows: list, advantages: list[float], low: float = 0.2, high: float = 0.28) -> tuple[float, Slopes]:
    """2503.20783, section 3.2: the sum over tokens by the generation budget, the mean over completions."""
    return _surrogate(rows, advantages, low, high, lambda row: 1 / LIMIT / len(rows))


def _surrogate(rows: list, advantages: list[float], low: float, high: float, weight) -> tuple[float, Slopes]:
    total, slopes = 0.0, []
    for row, advantage in zip(rows, advantages, strict=True):
        pairs = [
            clipped(math.exp(new - old), advantage, low, high) for new, old in zip(row.logps, row.old, strict=True)
        ]
        total += weight(row) * sum(value for value, _ in pairs)
        slopes.append([weight(row) * slope for _, slope in pairs])
    return total, slopes


def kl_to_base(rows: list, coefficient: float) -> tuple[float, Slopes]:
    """2402.03300, eq. 4: pi_ref / pi - log(pi_ref / pi) - 1 a token, aggregated as eq. 3."""
    total, slopes = 0.0, []
    for row in rows:
        weight = coefficient / len(row.logps) / len(rows)
        logs = [ref - new for ref, new in zip(row.base, row.logps, strict=True)]
        total += weight * sum(math.exp(log) - log - 1 for log in logs)
        slopes.append([weight * (1 - math.exp(log)) for log in logs])
    return total, slopes


def gspo(rows: list, advantages: list[float], low: float, high: float) -> tuple[float, Slopes]:
    """2507.18071, eq. 5 and 7."""
    total, slopes = 0.0, []
    for row, advantage in zip(rows, advantages, strict=True):
        ratio = math.exp(mean(new - old for new, old in zip(row.logps, row.old, strict=True)))
        value, slope = clipped(ratio, advantage, low, high)
        total += value / len(rows)
        slopes.append([slope / len(row.logps) / len(rows)] * len(row.logps))
    return total, slopes


def flowrl(rows: list, advantages: list[float], log_z: dict[str, float], beta: float) -> tuple[float, Slopes]:
    """2509.15207, eq. 6 and 7; the slope at constant log Z."""
    total, slopes = 0.0, []
    for row, advantage in zip(rows, advantages, strict=True):
        weight = math.exp(sum(row.logps) - sum(row.old))
        weight = min(max(weight, 1 - 0.2), 1 + 0.28)
        residual = log_z[row.prompt] + mean(row.logps) - beta * advantage - mean(row.base)
        total += weight * residual**2 / len(rows)
        slopes.append([2 * weight * residual / len(row.logps) / len(rows)] * len(row.logps))
    return total, slopes


def covariances(rows: list, advantages: list[float]) -> Slopes:
    """2505.22617, eq. 10: (log p - mean)(A - mean) of each token, the means over all tokens."""
    centre = mean(value for row in rows for value in row.logps)
    of_tokens = mean(a for row, a in zip(rows, advantages, strict=True) for _ in row.logps)
    return [[(v - centre) * (a - of_tokens) for v in row.logps] for row, a in zip(rows, advantages, strict=True)]


def kl_cov(rows: list, advantages: list[float], fraction: float, coefficient: float) -> tuple[float, Slopes]:
    """2505.22617, eq. 13 and 14, the KL term as in listing 1; the ratio is not clipped."""
    total, slopes = token_level(rows, advantages, 1.0, math.inf)
    tokens = sum(len(row.logps) for row in rows)
    covariance = covariances(rows, advantages)
    places = [(i, t) for i, row in enumerate(rows) for t in range(len(row.logps))]
    top = sorted(places, key=lambda place: -covariance[place[0]][place[1]])[: max(1, int(fraction * tokens))]
    for i, t in top:
        log_ratio = rows[i].logps[t] - rows[i].old[t]
        total += coefficient * abs(log_ratio) / tokens
        slopes[i][t] += coefficient * math.copysign(1, log_ratio) / tokens
    return total, slopes


def added(*terms: tuple[float, Slopes]) -> tuple[float, Slopes]:
    slopes = [
        [sum(parts) for parts in zip(*of_row, strict=True)] for of_row in zip(*(s for _, s in terms), strict=True)
    ]
    return sum(value for value, _ in terms), slopes
