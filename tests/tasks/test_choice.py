"""Multiple choice on twenty questions in each dataset's schema."""

import json
from functools import cache
from pathlib import Path

import pytest
import schemas
from judged import judge

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.base import Attempt
from progrpo_cli.tasks.choice import Choice, extract_letter
from progrpo_cli.tasks.config import ChoiceConfig
from progrpo_cli.tasks.registry import make_task


@cache
def shipped(name: str) -> ChoiceConfig:
    return compose([f"task={name}"]).task


def task_of(name: str, path: Path) -> Choice:
    return make_task(shipped(name).model_copy(update={"dataset": str(path)}))


@pytest.mark.parametrize(("name", "letters"), [("gpqa", "ABCD"), ("mmlu_pro", "ABCDEFGHIJ")])
def test_the_letter_of_the_right_option_is_right(name: str, letters: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    task = task_of(name, schemas.write(name, tmp_path))
    problems = task.problems("test")
    right_letters = set()
    for problem, row in zip(problems, schemas.SCHEMAS[name](), strict=True):
        verdicts = task.verdicts([Attempt(problem, f"\\boxed{{{letter}}}", True) for letter in letters])
        assert sorted(verdicts) == ["correct"] + ["wrong"] * (len(letters) - 1)
        letter = letters[verdicts.index("correct")]
        answer = row["Correct Answer"] if name == "gpqa" else str(10 * (row["question_id"] - 70))
        assert f"\n{letter}. {answer}\n" in problem.prompt
        right_letters.add(letter)
    assert len(right_letters) > 2  # the options' order does not reveal the answer
    assert judge(task, problems[0], "\\boxed{Z}") == "unparseable"
    assert judge(task, problems[0], "I pass") == "unparseable"
    assert judge(task, problems[0], "\\boxed{A}", finished=False) == "truncated"
    parquet = task_of(name, schemas.write(name, tmp_path, ".parquet"))
    assert parquet.problems("test") == problems


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("\\boxed{C}", "C"),
        ("\\boxed{(c)}", "C"),
        ("\\boxed{\\text{B}}", "B"),
        ("\\boxed{D. 42}", "D"),
        ("The answer is (A).", "A"),
        ("Answer: B", "B"),
        ("**Answer:** C", "C"),
        ("\\boxed{\\textrm{B}}", "B"),
        ("\\boxed{\\mathbf{B}}", "B"),
        ("\\boxed{\\textbf{\\text{(B)}}}", "B"),
        ("\\boxed{B \\text{ blah}}", "B"),
        ("\\boxed{\\text{Option B}}", "B"),
        ("\\boxed{\\text{B. blah}}", "B"),
        ("The answer is B, because", "B"),
        ("The answer is **B**. Because x", "B"),
        ("The answer is **B** because x", "B"),
        ("The answer is option **(B)**", "B"),
        ("The answer is $\\mathbf{B}$.", "B"),
        ("The answer is \\(B\\).", "B"),
        ("Answer: B - foo", "B"),
        ("Answer: A, I think", "A"),
        ("\\boxed{42}", None),
        ("\\boxed{Because}", None),
        ("\\boxed{\\text{Because}}", None),
        ("\\boxed{A, B}", None),
        ("\\boxed{A \\text{ and } B}", None),
        ("\\boxed{\\frac{a}{b}}", None),
        ("\\boxed{\\sqrt{a}}", None),
        ("The answer is A car", None),
        ("The answer is a car, because", None),
        ("The answer is a-priori", None),
        ("The answer is because", None),
        ("The answer is optional", None),
        ("A", None),
    ],
)
def test_extracting_the_letter(text: str, letter: str | None) -> None:
    assert extract_letter(text) == letter


def test_an_answer_that_is_not_an_option_is_named(tmp_path: Path) -> None:
    path = schemas.write("mmlu_pro", tmp_path)
    row = json.loads(path.read_text().splitlines()[0])
    for change, message in [({"answer": "K"}, "'K' is not one of the 10 options"), ({"options": "A, B"}, "not a list")]:
        path.write_text(json.dumps({**row, **change}))
        with pytest.raises(RequestError, match=f"line 1: .*{message}"):
            task_of("mmlu_pro", path).problems("test")
