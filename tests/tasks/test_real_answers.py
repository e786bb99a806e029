r"""Answers and references of kinds that public reports describe for real models and datasets.

``real_inputs/*.jsonl`` contains our own examples. A row expects the right verdict, or allows several where opinions
differ. The examples below go beyond these rows; none of the ``wrong`` ones may be judged right.
"""

import json
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from judged import judge

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.answers import extract_answer
from progrpo_cli.tasks.base import Attempt
from progrpo_cli.tasks.choice import extract_letter
from progrpo_cli.tasks.judging.pool import JudgePool
from progrpo_cli.tasks.maths import normalisation
from progrpo_cli.tasks.maths import task as maths_task
from progrpo_cli.tasks.maths.task import Maths
from progrpo_cli.tasks.own import extract_answer as extract_own_answer
from progrpo_cli.tasks.registry import make_task

HERE = Path(__file__).parent / "real_inputs"
ANYTHING = ("ambiguous", "no-crash")


@pytest.fixture(autouse=True, scope="module")
def patient_pool() -> Iterator[None]:
    """Use a long time limit: these tests check verdicts, not speed."""
    pool = JudgePool("progrpo_cli.tasks.maths.judge", workers=2, limit=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maths_task, "shared_pool", lambda module: pool)
        yield
    pool.close()


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def allowed(expect: str) -> set[str]:
    """Return the verdicts that a row allows."""
    if expect == "not-correct":
        return {"wrong", "unparseable"}
    return {"correct", "wrong", "unparseable"} if expect in ANYTHING else set(expect.split("-or-"))


@cache
def shipped():
    return compose(["task=math500"]).task


def task_of(directory: Path, golds: list[str], **changes: object) -> Maths:
    path = directory / "problems.jsonl"
    lines = [{"unique_id": str(i), "problem": f"Problem {i}?", "answer": gold} for i, gold in enumerate(golds)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return make_task(shipped().model_copy(update={"dataset": str(path), **changes}))


def verdicts(directory: Path, pairs: list[tuple[str, str]], **changes: object) -> list[str]:
    """Judge pairs of a reference and a completion with the shipped task."""
    task = task_of(directory, [gold for gold, _ in pairs], **changes)
    attempts = [Attempt(p, text, True) for p, (_, text) in zip(task.problems("test"), pairs, strict=True)]
    return task.verdicts(attempts)


def test_mathematics(tmp_path: Path) -> None:
    examples = [row for row in rows("maths") if row["expect"] != "refused"]
    actual = verdicts(tmp_path, [(row["gold"], row["text"]) for row in examples])
    pairs = zip(examples, actual, strict=True)
    assert [(row, verdict) for row, verdict in pairs if verdict not in allowed(row["expect"])] == []
    assert len(examples) > 270


@pytest.mark.parametrize("gold", [row["gold"] for row in rows("maths") if row["expect"] == "refused"])
def test_an_unreadable_reference_is_named_with_its_line(gold: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="line 2: the reference answer cannot be read"):
        task_of(tmp_path, ["5", gold]).problems("test")


def test_multiple_choice() -> None:
    for row in rows("choice"):
        expected = {"B-or-None": ["B", None], "X-not-an-option": ["X", None]}.get(row["expect"], [row["expect"]])
        assert extract_letter(row["text"]) in expected, row


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(("The answer is B because it is", "B"), ("The answer is B (mitochondria)", "B"), ("The answer is `B`", "B")),
        *(("The answer is B!", "B"), ("The correct choice is **C**", "C"), ("\\boxed{\\text{The answer is B}}", "B")),
        *(("The answer is A and B.", None), ("The answer is (A) and (B).", None), ("The answer is B or C", None)),
        *(("\\boxed{A} or \\boxed{B}", None), ("\\boxed{A/B}", None), ("\\boxed{A;B}", None), ("\\boxed{AB}", None)),
        *(("<answer>B</answer>", "B"), ("<think>The answer is A</think>Answer: B", "B"), ("<think>\\boxed{B}", None)),
        *(("The answer is not clear.", None), ("The answer is I think B", None), ("Answer: none of them", None)),
        *(("**Final Answer**\n\nB", "B"), ("答案是B。", "B"), ("The best answer is (C): foo", "C")),
        *(("Option A is incorrect, option C is correct.", "C"), ("(D) is the correct answer.", "D")),
        *(("The answer is a good one", None), ("The answer: A dog is faster", None), ("\\boxed{A,B,C}", None)),
        *(
            ("The answer is A because B is false", "A"),
            ("The answer is A, B is wrong.", "A"),
            ("Answer: B\nA is not", "B"),
        ),
    ],
)
def test_extracting_the_letter(text: str, letter: str | None) -> None:
    assert extract_letter(text) == letter


SENTENCES = [
    *(
        "The answer is {}.",
        "The answer is ${}$. I hope it is correct.",
        "**Answer:** {}",
        "Final Answer: **{}**, as shown",
    ),
    *("The answer is:\n\\[\n{}\n\\]\nDone.", "#### {}", "<answer>{}</answer>", "<answer>\n\\boxed{{{}}}\n</answer>"),
    *(
        "答案：{}",
        "答案是 ${}$。",
        "**Final Answer**\n{}",
        "### Final answer\n\n$$ {} $$",
        "The answer is {}, since it is.",
    ),
    *(
        "\\boxed {}",
        "\\fbox{{{}}}",
        "<think>\\boxed{{99}} or #### 98</think>The answer is {}",
        "So the answer must be {}.",
    ),
    *(
        "The answer to this question is \\({}\\).",
        "<think>99</think>\n\\boxed{{{}}}",
        "The final answer is therefore {}!\n",
    ),
]


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("value", ["7", "-12", "3.5"])
def test_extracting_the_answer(sentence: str, value: str) -> None:
    answer = extract_answer(sentence.format(value))
    assert answer is not None
    assert normalisation.parse_number(normalisation.normalise(answer.rstrip("!"))) == normalisation.parse_number(value)


@pytest.mark.parametrize(
    "text",
    ["<think>so \\boxed{12}", "\\boxed{7} but \\boxed{9", "The answer.", "", "</think>", "It is 9", "#### Step 2"],
)
def test_texts_without_an_answer(text: str) -> None:
    assert extract_answer(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("The answer is 5.", "5"),
        ("<answer>Paris</answer>", "Paris"),
        ("The result is below.\n42", "42"),
        ("<think>41\n</think>\n42", "42"),
        ("<think>42", ""),
    ],
)
def test_extracting_the_answer_of_an_own_task(text: str, answer: str) -> None:
    assert extract_own_answer(text) == answer


HOSTILE = [
    "\\boxed{" * 50_000,
    "<answer>" * 50_000,
    "answer is " * 50_000,
    "<think>" * 50_000,
    "\n####" * 50_000,
    "$" * 10**6,
]
HOSTILE += [
    "answer " + "to x " * 10**5,
    "\\boxed{1} and " * 50_000,
    "final answer\n" * 50_000,
    "answer is " + "** " * 10**5,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12].strip())
def test_extraction_takes_linear_time(text: str) -> None:
    start = time.process_time()
    for extract in (extract_answer, extract_letter, extract_own_answer):
        answer = extract(text)
        if answer is not None:
            normalisation.normalise(answer[:500])
    assert time.process_time() - start < 2


RIGHT = [
    *(("5", "5\\$"), ("5", "5."), ("5", "5。"), ("12345", "12\\,345"), ("10000", "10 000"), ("x=1234", "x=1,234")),
    *(
        ("90^\\circ", "90°"),
        ("\\sqrt{2}", "√2"),
        ("\\sqrt{2}", "√(2)"),
        ("5", "€5"),
        ("(1,2)", "（1，2）"),
        ("x^2", "x²"),
    ),
    *(("7/2", "3 1/2"), ("1234567", "1,234,567"), ("1234567", "1 234 567"), ("5", "\\text{\\$5}"), ("0.5", "1/2")),
    *(("10\\%", "10"), ("10\\%", "0.1"), ("10\\%", "10 percent"), ("0.1", "10\\%"), ("10\\%, 20\\%", "20\\%, 10\\%")),
    *(("x=10\\%", "10\\%"), ("\\frac{25}{2}\\%", "0.125"), ("\\sqrt{2}\\%", "\\frac{\\sqrt{2}}{100}"), ("3", "300\\%")),
    *(
        ("1e-30", "10^{-30}"),
        ("\\sqrt{2}", "1.4142136"),
        ("\\pi", "3.1415927"),
        ("\\frac{1}{3}", "0.3333333"),
        ("0", "0.0"),
    ),
    *(("2^{100}", "1267650600228229401496703205376"), ("\\sqrt{8}", "2\\sqrt{2}"), ("0", "\\sqrt{2}-\\sqrt{2}")),
    *(
        ("3+4i", "(2+i)^2"),
        ("\\{1,2\\}", "2 \\text{ and } 1"),
        ("1001_2", "1001_{\\text{two}}"),
        ("5 \\text{ cm}", "5"),
    ),
    *(
        ("\\text{north}", "North"),
        ("\\text{(B)}", "B"),
        ("no solution", "\\text{No solution}"),
        ("5\\text{ inches}", "5 inch"),
    ),
]
WRONG = [
    *(("1.6e-19", "-9.1e-31"), ("2^{-99}", "2^{-98}"), ("0.0000001", "0.0000002"), ("10^{20}", "10^{20}+1.0")),
    *(("10^{-40}", "0"), ("0", "10^{-40}"), ("0", "1e-9"), ("\\sqrt{2}", "1.4142"), ("\\pi", "\\frac{22}{7}")),
    *(("(10^{-20}, 1)", "(10^{-21}, 1)"), ("\\{10^{-20}\\}", "\\{2 \\times 10^{-20}\\}"), ("10^{-20}x", "10^{-21}x")),
    *(("\\begin{pmatrix}10^{-9}\\\\1\\end{pmatrix}", "\\begin{pmatrix}2\\cdot 10^{-9}\\\\1\\end{pmatrix}"),),
    *(
        ("[0, 10^{-9}]", "[0, 10^{-10}]"),
        ("x=10^{-20}", "x=10^{-21}"),
        ("\\frac{1}{3}", "0.33333"),
        ("0.5", "0.5000001"),
    ),
    *(("0.1", "10"), ("10", "0.1"), ("10\\%", "0.1\\%"), ("10", "10\\%"), ("20", "20 percent"), ("10\\%", "1000\\%")),
    *(("8", "3 5"), ("35", "3 5"), ("5", "5 \\text{ or } 6"), ("5", "\\text{not } 5"), ("5", "5x"), ("5", "5 million")),
    *(
        ("2516_8", "2516_9"),
        ("2516_8", "1358"),
        ("\\text{east}", "\\text{seat}"),
        ("east", "seat"),
        ("1234", "1,2,3,4"),
    ),
    *(
        ("x^2=-1", "x^2=-4"),
        ("2", "\\boxed{1} and \\boxed{2}"),
        ("5\\text{ inches}", "5\\text{ cm}"),
        ("1000", "1.000"),
    ),
    *(
        ("\\sqrt{10^{-40}+2}", "\\sqrt{2}+10^{-9}"),
        ("e^{-50}", "e^{-51}"),
        ("\\infty", "10^{99}"),
        ("i", "1"),
        ("i", "-i"),
    ),
]


@pytest.mark.parametrize(("pairs", "expected"), [(RIGHT, {"correct"}), (WRONG, {"wrong", "unparseable"})])
def test_kinds_of_answers(pairs: list[tuple[str, str]], expected: set[str], tmp_path: Path) -> None:
    actual = verdicts(tmp_path, [(gold, f"\\boxed{{{answer}}}") for gold, answer in pairs])
    assert [(pair, verdict) for pair, verdict in zip(pairs, actual, strict=True) if verdict not in expected] == []


def test_normalising_twice_changes_nothing() -> None:
    for row in rows("maths"):
        for text in (row["gold"], extract_answer(row["text"]) or ""):
            assert normalisation.normalise(normalisation.normalise(text)) == normalisation.normalise(text)


def test_relative_tolerance_is_an_option(tmp_path: Path) -> None:
    pairs = [("1.6e-19", "\\boxed{1.602e-19}"), ("1.6e-19", "\\boxed{1.7e-19}"), ("\\sqrt{2}", "\\boxed{1.414}")]
    assert verdicts(tmp_path, pairs) == ["wrong"] * 3
    assert verdicts(tmp_path, pairs, relative_tolerance=0.01) == ["correct", "wrong", "correct"]


def test_the_parser_does_not_see_per_cent_signs() -> None:
    """With Hydra's version of ANTLR the parser fails on them, so the worker writes them out first."""
    pairs = [("10\\%", "\\frac{1}{10}"), ("\\frac{1}{10}", "10\\%"), ("x\\%", "\\frac{x}{100}"), ("10\\%", "11\\%")]
    results = maths_task.shared_pool("").judge([{"gold": gold, "answer": answer} for gold, answer in pairs])
    assert results == ["correct", "correct", "correct", "wrong"]


def test_a_solution_can_be_the_reference(tmp_path: Path) -> None:
    task = task_of(tmp_path, ["So 24 + 48 = <<24+48=72>>72.\n#### 72", "We add: $2+3=\\boxed{5}$. Done."])
    first, second = task.problems("test")
    assert [judge(task, first, f"\\boxed{{{n}}}") for n in (72, 48)] == ["correct", "wrong"]
    assert [judge(task, second, f"\\boxed{{{n}}}") for n in (5, 2)] == ["correct", "wrong"]
