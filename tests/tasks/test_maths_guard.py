"""More than three hundred odd and hostile answers: each gets its verdict within the limit, and the pool lives on."""

import time

import psutil
import pytest

from progrpo_cli.tasks.judging.pool import JudgePool
from progrpo_cli.tasks.maths import guard

LIMIT = 0.7


def families() -> dict[str, list[str]]:
    """Answers by what is wrong with them, no two alike."""
    sizes, few = range(20), range(4)
    return {
        "towers of powers": [f"{9 - i % 8}^{{9^{{{9 + i}^{{9}}}}}}" for i in sizes],
        "towers without braces": ["^".join(["9"] * (3 + i)) for i in sizes],
        "towers of stars": ["**".join([str(9 + i)] * 4) for i in sizes],
        "two powers that are too much": [f"{9 + i}^{{{9 + i}^{{9999}}}}" for i in sizes],
        "huge exponents": [f"2^{{{'9' * (5 + i)}}}" for i in sizes],
        "factorials": [f"{10 ** (4 + i)}!" for i in sizes] + [f"{3 + i}!!!" for i in sizes],
        "many digits": ["7" * (61 + 977 * i) for i in sizes],
        "a megabyte": [chr(97 + i) * 1_000_000 for i in range(6)] + ["(" * 1_000_000, "\\frac{1}{2}" * 90_000],
        "control characters": [f"4\x00{i}" for i in sizes] + [f"{chr(i)}42" for i in range(1, 9)],
        "lone surrogates": [f"\ud800{i}" for i in range(5)],
        "open brackets": ["(" * (i + 21) + "1" for i in sizes],
        "nested fractions": ["\\frac{1}{" * (21 + i) + "2" + "}" * (21 + i) for i in sizes],
        "nested roots": ["\\sqrt{" * (21 + 3 * i) + "2" + "}" * (21 + 3 * i) for i in sizes],
        "unbalanced LaTeX": [f"\\frac{{{i}}}{{" for i in sizes] + [f"\\left( {i} \\right" for i in sizes],
        "half-open commands": [f"\\begin{{pmatrix}} {i} & " for i in sizes] + [f"\\sqrt[{i}" for i in sizes],
        "long sums": ["+".join([f"x_{{{i}}}"] * 60) for i in few],
        "long products": ["".join([f"(x+{j + i})" for j in range(55)]) for i in few],
        "deep powers of sums": [f"(x+y+z+{i})^{{900}}" for i in few],
        "integrals and sums": [f"\\sum_{{k=1}}^{{{10**3 + i}}} \\frac{{1}}{{k^{{3}}}}" for i in few],
        "limits and products": [f"\\prod_{{k=1}}^{{{10**3 + i}}} (k+\\sqrt{{2}})" for i in few],
        "not mathematics": [f"I do not know ({i})" for i in sizes],
        "scraps": ["", " ", "\n", "🙂", "\\", "{", "}", "$", "$$", "\\boxed{"],
        "other scripts": ["٣", "½", "²", "四", "Ⅷ", "∞", "π", "−5", "５"],
        "code": ["__import__('os').system('true')", "open('/tmp/x','w')", "().__class__", "exec('1')", "lambda x: x"],
        "binomials": [f"\\binom{{{10**5 + i}}}{{{5 * 10**4}}}" for i in few],
        "decimals": [f"0.{'3' * (61 + i)}" for i in sizes],
    }


HOSTILE = [(family, answer) for family, answers in families().items() for answer in answers]


@pytest.fixture(scope="module")
def pool():
    made = JudgePool("progrpo_cli.tasks.maths.judge", workers=2, limit=LIMIT)
    yield made
    made.close()


def test_there_are_more_than_300_and_each_once() -> None:
    assert len({answer for _, answer in HOSTILE}) == len(HOSTILE) > 300


def test_each_gets_a_verdict_within_the_limit_and_memory_stays_bounded(pool: JudgePool) -> None:
    texts = [f"So it is \\boxed{{{answer}}}" for _, answer in HOSTILE]
    began = time.monotonic()
    seen = [guard.answer_in(text) for text in texts]
    allowed = [i for i, answer in enumerate(seen) if answer is not None and guard.may_be_parsed(answer)]
    assert time.monotonic() - began < 5  # the guard itself, on 8 MB of text
    pool.judge([{"gold": "\\frac{1}{2}", "answer": "0.5"}])
    peak, slowest, last = 0, 0.0, time.monotonic()

    def known(index: int, answer: str) -> None:
        nonlocal peak, slowest, last
        now = time.monotonic()
        slowest, last = max(slowest, now - last), now
        tree = psutil.Process().children(recursive=True)
        peak = max(peak, sum(process.memory_info().rss for process in tree if process.is_running()))

    verdicts = pool.judge([{"gold": "\\frac{1}{2}", "answer": guard.normal(seen[i])} for i in allowed], known)
    assert set(verdicts) <= {"wrong", "unparseable", "timeout"}
    assert len(verdicts) == len(allowed)
    assert slowest < LIMIT + 10  # for the machine's sake; without the guard one of these takes half a minute and more
    assert peak < 6 * (1 << 29)
    assert pool.judge([{"gold": "\\frac{1}{2}", "answer": "0.5"}]) == ["correct"]  # it lives


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{1} or \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed {3}", "3"),
        ("\\fbox{4}", "4"),
        ("The answer is 5.", "5"),
        ("**Answer:** $6$", "$6$"),
        ("Final answer: 7\nbye", "7"),
        ("answer is 1, no, the answer is 8", "8"),
        ("It is 9", None),
        ("\\boxed{10", None),
        ("\\boxed{}", None),
        ("", None),
        ("\\boxed{" + "1" * 2000 + "}", None),
    ],
)
def test_the_answer_in_a_text(text: str, answer: str | None) -> None:
    assert guard.answer_in(text) == answer


@pytest.mark.parametrize(
    "answer",
    ["x^{10}", "2^{1000}", "e^{x^2}", "e^{-x^{2}/2}", "a^2+b^2+c^2+d^2", "10!", "1.5\\times10^{-34}", "((((1))))"],
)
def test_ordinary_answers_are_within_the_caps(answer: str) -> None:
    assert guard.may_be_parsed(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9}}}",
        "9^9^9^9",
        "2^{99999}",
        "9**9**9**9",
        "(9^{9})^{99999}",
        "100000!",
        "9!!!",
        "a\x00",
        "x^{(y^{(z^{2})})}",
    ],
)
def test_bombs_are_not(answer: str) -> None:
    assert not guard.may_be_parsed(answer)


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("204", "204", True),
        ("204", "205", False),
        ("+7", "7", True),
        ("007", "7", True),
        ("x", "x", True),
        ("1/2", "0.5", None),
        ("7", "7.0", None),
        ("7", "seven", None),
    ],
)
def test_what_is_known_without_parsing(gold: str, answer: str, verdict: bool | None) -> None:
    assert guard.verdict_without_parsing(gold, answer) is verdict
