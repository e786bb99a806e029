"""Each method's loss in plain Python, from its paper's definition: the value, and its slope by each token's log p.

It imports nothing from the package. A batch is a list of ``replay.Row``, in which the rows of a group are contiguous.
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


def map_groups(rows: list, function) -> list[float]:
    return [value for group in groups(rows) for value in function(group)]


def reward(row) -> float:
    return float(row.correct)


# Advantages


def grpo_advantages(rows: list) -> list[float]:
    return map_groups(rows, lambda group: arm_reference.group_advantages([reward(row) for row in group]))


def dr_grpo_advantages(rows: list) -> list[float]:
    """Dr. GRPO, section 3.2: no division by the standard deviation."""
    return map_groups(rows, lambda group: [reward(row) - mean(map(reward, group)) for row in group])


def arm(rows: list, advantages: list[float], c_q: dict[str, float], alpha: float, rho: float = 0.2) -> list[float]:
    """ARM on ``advantages``, under the policy that sampled; ``c_q`` is by prompt."""
    result = []
    for group, group_advantages in zip(groups(rows), groups(advantages), strict=True):
        c_o = [arm_reference.confidence(row.old, rho) for row in group]
        given = [c_q[row.prompt] for row in group], c_o, [reward(row) for row in group]
        result += arm_reference.reweight(group_advantages, *given, alpha=alpha, gate="any_correct", scope="all")
    return result


def passk_advantages(rows: list, k: int) -> list[float]:
    """2508.10751, section 2.4, by enumeration: the mean advantage of the subsets of k that a sample is in."""

    def function(group: list) -> list[float]:
        subsets = list(combinations(range(SIZE), k))
        scores = [float(any(group[i].correct for i in subset)) for subset in subsets]
        centre = mean(scores)
        deviation = math.sqrt(mean((score - centre) ** 2 for score in scores))
        if deviation == 0:
            return [0.0] * SIZE
        normalised = [(score - centre) / deviation for score in scores]
        return [mean(s for s, subset in zip(normalised, subsets, strict=True) if i in subset) for i in range(SIZE)]

    return map_groups(rows, function)


def unlikeliness_advantages(rows: list, beta: float) -> list[float]:
    """2506.02355: r (1 - beta (G - rank) / G) for right samples, rank 0 the most likely, then GRPO's advantages.

    As in the authors' script, a group that is all right is not trained on.
    """

    def function(group: list) -> list[float]:
        if all(row.correct for row in group):
            return [0.0] * SIZE
        likeliest_first = sorted(group, key=lambda row: -sum(row.old))
        rank = {row.text: index for index, row in enumerate(likeliest_first)}
        rewards = [reward(row) * (1 - beta * (SIZE - rank[row.text]) / SIZE) for row in group]
        return arm_reference.group_advantages(rewards)

    return map_groups(rows, function)


def dapo_advantages(rows: list, cache: float, penalty: float) -> list[float]:
    """2503.14476: eq. 13 added to the reward, then eq. 9, with the penalty in units of our reward."""

    def length(row) -> float:
        over = len(row.logps) - (LIMIT - cache)
        return -penalty * min(1.0, over / cache) if over > 0 else 0.0

    return map_groups(rows, lambda group: arm_reference.group_advantages([reward(r) + length(r) for r in group]))


# Losses: (value, slopes)


def clipped(ratio: float, advantage: float, low: float, high: float) -> tuple[float, float]:
    """-min(ratio A, clip(ratio) A) and its slope by log p: -ratio A if the first term is the smaller one, else 0."""
    bounded = min(max(ratio, 1 - low), 1 + high) * advantage
    unclipped = ratio * advantage
    return -min(unclipped, bounded), -unclipped if unclipped <= bounded else 0.0


def token_level(rows: list, advantages: list[float], low: float = 0.2, high: float = 0.28) -> tuple[float, Slopes]:
    """The shared recipe: the mean over all tokens (2503.14476, eq. 12)."""
    return _surrogate(rows, advantages, low, high, lambda row: 1 / sum(len(other.logps) for other in rows))


def sequence_level(rows: list, advantages: list[float], low: float, high: float) -> tuple[float, Slopes]:
    """2402.03300, eq. 3: the mean over a completion's tokens, then over completions."""
    return _surrogate(rows, advantages, low, high, lambda row: 1 / len(row.logps) / len(rows))


def constant_normaliser(
    rows: list, advantages: list[float], low: float = 0.2, high: float = 0.28
) -> tuple[float, Slopes]:
    """2503.20783, section 3.2: the sum over tokens divided by the generation budget, then the mean over completions."""
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
    """2402.03300, eq. 4: pi_ref / pi - log(pi_ref / pi) - 1 per token, aggregated as in eq. 3."""
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
    mean_logp = mean(value for row in rows for value in row.logps)
    mean_advantage = mean(a for row, a in zip(rows, advantages, strict=True) for _ in row.logps)
    return [
        [(v - mean_logp) * (a - mean_advantage) for v in row.logps] for row, a in zip(rows, advantages, strict=True)
    ]


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


def add(*terms: tuple[float, Slopes]) -> tuple[float, Slopes]:
    slopes = [
        [sum(parts) for parts in zip(*row, strict=True)] for row in zip(*(slopes for _, slopes in terms), strict=True)
    ]
    return sum(value for value, _ in terms), slopes
