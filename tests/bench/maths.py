"""Time of mathematics verdicts with two workers: ordinary answers alone, and with 1 % hostile ones, in turn."""

import random
import statistics
import time

from progrpo_cli.tasks.judging.pool import JudgePool
from progrpo_cli.tasks.maths import guard, normalisation, text_comparison

ANSWERS, BAD, ROUNDS, WORKERS = 900, 9, 3, 2


def ordinary_answers(rng: random.Random) -> list[tuple[str, str]]:
    """Distinct pairs of reference and answer, half of them right, none decided without the parser."""
    answers: dict[tuple[str, str], None] = {}
    while len(answers) < ANSWERS:
        a, b, c = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 99)
        wrong = rng.random() < 0.5
        d = b + wrong
        pair = rng.choice(
            [
                (f"\\frac{{{a}}}{{{b}}}", f"{a}/{d}"),
                (f"{a}\\sqrt{{{b}}}+{c}", f"{c} + {a}\\sqrt{{{d}}}"),
                (f"x^2+{a}x+{b}", f"{d} + {a}x + x^{{2}}"),
                (f"\\left[{a},{a + b}\\right)", f"[{a}, {a + d})"),
                (f"({a},{b},{c})", f"({a}, {d}, {c})"),
                (f"{a}.{b}", f"{a}.{d}0"),
                (f"{a}\\pi", f"{a + wrong} \\cdot \\pi"),
                (f"\\{{{a},{b},{c}\\}}", f"\\{{{c}, {d}, {a}\\}}"),
            ]
        )
        if text_comparison.compare(*map(normalisation.normalise, pair)) is None:
            answers[pair] = None
    return list(answers)


def hostile_answers() -> list[tuple[str, str]]:
    """Three kinds of answers that pass the guard, so that the time limit must stop (nearly) all of them.

    The last kind does not look costly, so it is judged among the ordinary answers.
    """
    texts = [
        (f"(x+y+z+{i})^{{900}}", f"\\binom{{{100_000 + i}}}{{50000}}", f"((a+b+{i})(c+d)(x+y))^{{99}}")
        for i in range(BAD // 3)
    ]
    answers = [("\\frac{1}{2}", text) for kinds in texts for text in kinds]
    assert all(guard.may_be_parsed(text) for _, text in answers)
    assert [guard.looks_costly(text) for _, text in answers] == [True, True, False] * (BAD // 3)
    return answers


def measure(pool: JudgePool, pairs: list[tuple[str, str]]) -> tuple[float, int]:
    """Seconds until the last ordinary answer is judged, and the number of timeouts."""
    hostile = {text for _, text in hostile_answers()}
    began = time.perf_counter()
    last, timeouts = began, 0

    def record(index: int, verdict: str) -> None:
        nonlocal last, timeouts
        timeouts += verdict == "timeout"
        if pairs[index][1] not in hostile:
            last = time.perf_counter()
            assert verdict in ("correct", "wrong"), (pairs[index], verdict)

    allowed = [(gold, answer) for gold, answer in pairs if guard.may_be_parsed(answer)]
    assert len(allowed) == len(pairs)
    costly = {place for place, (_, answer) in enumerate(pairs) if guard.looks_costly(answer)}  # as the task does
    pool.judge(
        [{"gold": normalisation.normalise(g), "answer": normalisation.normalise(a)} for g, a in pairs],
        record,
        costly=costly,
    )
    return last - began, timeouts


def main() -> None:
    pool = JudgePool("progrpo_cli.tasks.maths.judge", workers=WORKERS, limit=1.5)
    pool.judge([{"gold": "\\frac{1}{2}", "answer": "0.5"}] * WORKERS)
    rng = random.Random(0)
    alone, among, stopped = [], [], 0
    for number in range(ROUNDS):
        pairs = ordinary_answers(rng)
        mixed = [*pairs, *hostile_answers()]
        rng.shuffle(mixed)
        turns = [(alone, pairs), (among, mixed)]
        for times, given in turns if number % 2 else turns[::-1]:
            pool.close()  # parsers cache their results
            pool.judge([{"gold": "\\frac{1}{2}", "answer": "0.5"}] * WORKERS)
            took, timeouts = measure(pool, given)
            assert timeouts <= (BAD if given is mixed else 0)
            stopped += timeouts
            times.append(took)
    pool.close()
    fast, slow = statistics.median(alone), statistics.median(among)
    ratio = statistics.median(b / a for a, b in zip(alone, among, strict=True))
    print("| answers | seconds until the last ordinary verdict (median) | answers/s |")
    print("|---|---|---|")
    print(f"| {ANSWERS} ordinary | {fast:.2f} | {ANSWERS / fast:.0f} |")
    print(f"| {ANSWERS} ordinary among {BAD} hostile | {slow:.2f} | {ANSWERS / slow:.0f} |")
    print(f"\n{WORKERS} workers, {ROUNDS} rounds in turn; ratio {ratio:.3f} (median; below 1.10 is wanted);")
    print(f"{stopped} of {BAD * ROUNDS} hostile answers had to be stopped")
