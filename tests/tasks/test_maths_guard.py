"""More than 300 odd and hostile answers: each gets a verdict within its limit, and the pool survives."""

import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo_cli.tasks.answers import extract_answer
from progrpo_cli.tasks.judging.pool import FIRST_BUDGET, SECOND_BUDGET, JudgePool
from progrpo_cli.tasks.maths import guard, normalisation, text_comparison

LIMIT = 0.7


def families() -> dict[str, list[str]]:
    """Return distinct answers by kind."""
    sizes, few = range(20), range(4)
    return {
        "towers of powers": [f"{9 - i % 8}^{{9^{{{9 + i}^{{9}}}}}}" for i in sizes],
        "towers without braces": ["^".join(["9"] * (3 + i)) for i in sizes],
        "towers of stars": ["**".join([str(9 + i)] * 4) for i in sizes],
        "two huge powers": [f"{9 + i}^{{{9 + i}^{{9999}}}}" for i in sizes],
        "huge exponents": [f"2^{{{'9' * (5 + i)}}}" for i in sizes],
        "factorials": [f"{10 ** (4 + i)}!" for i in sizes] + [f"{3 + i}!!!" for i in sizes],
        "factorials of sums": [f"({10**5}+{10**5 + i})!" for i in few] + [f"(9^{{{7 + i}}})!" for i in few],
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
    pool = JudgePool("progrpo_cli.tasks.maths.judge", workers=2, limit=LIMIT)
    yield pool
    pool.close()


def test_the_corpus_has_more_than_300_distinct_answers() -> None:
    assert len({answer for _, answer in HOSTILE}) == len(HOSTILE) > 300


def test_each_answer_gets_a_verdict_within_the_limits(pool: JudgePool) -> None:
    texts = [f"So it is \\boxed{{{answer}}}" for _, answer in HOSTILE]
    start = time.process_time()
    answers = [extract_answer(text) for text in texts]
    allowed = [answer for answer in answers if answer is not None and guard.may_be_parsed(answer)]
    assert time.process_time() - start < 5  # extraction and guard, on 8 MB of text
    pool.judge([{"gold": "\\frac{1}{2}", "answer": "0.5"}])
    peak = 0
    (parent, *_) = [psutil.Process(pid) for pid in pool.pids()]
    before = parent.cpu_times().children_user

    def measure_memory(index: int, result: str) -> None:
        nonlocal peak
        tree = psutil.Process().children(recursive=True)
        peak = max(peak, sum(process.memory_info().rss for process in tree if process.is_running()))

    requests = [{"gold": "\\frac{1}{2}", "answer": normalisation.normalise(answer)} for answer in allowed]
    verdicts = pool.judge(requests, measure_memory)
    assert set(verdicts) <= {"wrong", "unparseable", "timeout", "memory"}
    assert len(verdicts) == len(allowed)
    # Only workers that were killed are counted. An answer can use two smaller budgets before its whole limit.
    used = parent.cpu_times().children_user - before
    assert used < (verdicts.count("timeout") + 1) * (LIMIT + FIRST_BUDGET + SECOND_BUDGET) + 10
    assert peak < 6 * (1 << 29)
    assert pool.judge([{"gold": "\\frac{1}{2}", "answer": "0.5"}]) == ["correct"]  # the pool still works


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{1} or \\boxed{2}", "1, 2"),
        ("\\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed {3}", "3"),
        ("\\fbox{4}", "4"),
        ("The answer is 5.", "5"),
        ("**Answer:** $6$", "6"),
        ("Final answer: 7\nbye", "7"),
        ("answer is 1, no, the answer is 8", "8"),
        ("It is 9", None),
        ("\\boxed{10", None),
        ("\\boxed{}", None),
        ("", None),
        ("\\boxed{" + "1" * 2000 + "}", None),
    ],
)
def test_extracting_the_answer(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "answer",
    [
        *("x^{10}", "2^{1000}", "e^{x^2}", "e^{-x^{2}/2}", "a^2+b^2+c^2+d^2", "10!", "1.5\\times10^{-34}", "((((1))))"),
        *("x^2y^2z^2", "x^{2}y^{2}z^{2}", "a^2b^3c^4", "2^{10}3^{5}7^{2}", "2^3 3^2 5^1", "2^1000 3^5"),
        *("\\sin^2x\\cos^2x\\tan^2x", "x_1^2x_2^2x_3^2", "x^\\frac{1}{2}y^\\frac{1}{3}z^2", "x^-1y^-1z^-1"),
        *("\\left(x^2\\right)^3\\left(y^2\\right)^3z^2", "e^{x^2}e^{y^2}e^{z^2}", "(n+1)!", "\\frac{(2n)!}{n!}"),
    ],
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
        *("9 ^ 9 ^ 9 ^ 9", "9^{9}^{9}^{9}", "9^-9^-9^9", "9^9.5^9.5^9.5", "9^^9^9", "9^{9_{1}^{9^{9}}}", "9^9_1^9_1^9"),
        *(
            "9^\\frac{9^{9^9}}{1}",
            "9^\\frac{1}{9^{9^9}}",
            "9^\\left(9^{9^9}\\right)",
            "9^{\\{9^{9^9}\\}}",
            "9^{9^{9}}^9",
        ),
        *("}9^{9^{9^9}}", "x^2y^2z^{2^{2^{2}}}", "2^{9 9 9 9 9}", "2^{ - 99999}"),
    ],
)
def test_bombs_are_beyond_the_caps(answer: str) -> None:
    assert not guard.may_be_parsed(answer)


EXPONENTS = st.one_of(
    st.integers(0, 9).map(str),
    st.integers(0, 9999).map(lambda n: f"{{{n}}}"),
    st.sampled_from(["n", "{-k}", "{(n+1)}", "\\pi", "\\frac{1}{2}", "{\\frac{n}{2}}"]),
)
BASES = st.sampled_from(["x", "2", "10", "\\pi", "(x+1)", "\\left(a-b\\right)", "\\frac{1}{2}", "x_1"])
POWERS = st.lists(st.tuples(BASES, EXPONENTS), min_size=1, max_size=guard.MAX_POWERS)


@given(POWERS, st.sampled_from([" ", "\\cdot ", " \\times ", "+", "*"]))
def test_a_product_or_sum_of_powers_is_not_a_tower(powers: list[tuple[str, str]], operator: str) -> None:
    assert guard.may_be_parsed(operator.join(f"{base}^{exponent}" for base, exponent in powers))


@given(POWERS, BASES, st.lists(EXPONENTS, min_size=3, max_size=3), st.booleans())
def test_a_tower_is_found_after_any_product(powers, base: str, exponents: list[str], braces: bool) -> None:
    a, b, c = exponents
    tower = f"{base}^{{2^{{2^{c}}}}}" if braces else f"{base}^{a}^{b}^{c}"
    assert not guard.may_be_parsed(" ".join([*(f"{x}^{y}" for x, y in powers), tower]))


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
        ("11,\\!111", "11111"),
        ("$1{,}000$", "1000"),
        ("12,345.5", "12345.5"),
        ("(1, 2)", "(1, 2)"),
        ("(1,\\; 2)", "(1,\\; 2)"),
    ],
)
def test_thousands_separators_are_removed(answer: str, normalised: str) -> None:
    assert normalisation.normalise(answer) == normalised


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("204", "204", True),
        ("204", "205", False),
        ("+7", "7", True),
        ("007", "7", True),
        ("x", "x", True),
        ("10\\%", "10", True),
        ("12.5 \\%", "12.5", True),
        ("10%", "10", True),
        ("10\\%", "11", False),
        ("10\\%", "0.1", True),
        ("20", "20\\%", False),
        ("x\\%", "x", None),
        ("1/2", "0.5", True),
        ("7", "7.0", True),
        ("7", "seven", None),
    ],
)
def test_comparing_without_a_parser(gold: str, answer: str, verdict: bool | None) -> None:
    assert text_comparison.compare(gold, answer) is verdict


def test_a_bracket_after_a_constant_begins_another_factor() -> None:
    assert guard.may_be_parsed("x^\\pi (x+1)^\\pi (x+1)^0")
    assert not guard.may_be_parsed("9^\\sqrt{9^{9^9}}")
