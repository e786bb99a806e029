"""The mathematics tasks, with twenty problems in each dataset's schema."""

import json
from functools import cache
from pathlib import Path

import pytest
import schemas
from judged import judge

from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.base import SPLITS, Attempt
from progrpo_cli.tasks.config import MathsConfig, SharesConfig
from progrpo_cli.tasks.maths.task import Maths
from progrpo_cli.tasks.registry import make_task

MATHS = ["aime2024", "aime2025", "amc2023", "math500", "minerva", "olympiadbench", "dapo_math"]


@cache
def shipped(name: str) -> MathsConfig:
    return compose([f"task={name}"]).task


def task_of(name: str, path: Path, **changes: object) -> Maths:
    return make_task(shipped(name).model_copy(update={"dataset": str(path), **changes}))


def reference(name: str, row: dict) -> str:
    for field in shipped(name).fields.answer.split("."):
        row = row[int(field) if field.isdigit() else field]
    return str(row)


@pytest.mark.parametrize("name", MATHS)
def test_references_are_right_and_other_answers_wrong(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    task = task_of(name, schemas.write(name, tmp_path))
    problems = [problem for split in SPLITS for problem in task.problems(split)]
    assert len(problems) == schemas.SIZE
    by_question = {problem.prompt: problem for problem in problems}
    attempts = []
    for row in schemas.SCHEMAS[name]():
        question = str(row[shipped(name).fields.question])
        (problem,) = [problem for prompt, problem in by_question.items() if prompt.startswith(question)]
        answer = reference(name, row).strip("$")
        attempts += [Attempt(problem, f"\\boxed{{{answer}}}", True), Attempt(problem, "\\boxed{-123454321}", True)]
    assert task.verdicts(attempts) == ["correct", "wrong"] * schemas.SIZE
    parquet = task_of(name, schemas.write(name, tmp_path, ".parquet"))
    assert [parquet.problems(split) for split in SPLITS] == [task.problems(split) for split in SPLITS]
    assert parquet.verdicts(attempts[:4]) == ["correct", "wrong"] * 2


@pytest.mark.parametrize(("name", "split"), [("gsm8k", "test"), ("math_train", "rl")])
def test_the_answer_in_a_solution_is_the_reference(name: str, split: str, tmp_path: Path) -> None:
    path = schemas.write(name, tmp_path)
    task = (
        task_of(name, path)
        if name == "gsm8k"
        else task_of(name, path, shares=SharesConfig(rl=100, validation=0, test=0))
    )
    for i, problem in enumerate(task.problems(split)):
        right, wrong = ((i + 2) * (1000 + i), i + 2) if name == "gsm8k" else (f"{i}.5", 2 * i)
        assert [judge(task, problem, f"\\boxed{{{answer}}}") for answer in (right, wrong)] == ["correct", "wrong"]
    assert shipped("math_train").shares.rl == 98


def test_another_notation_of_the_answer_is_right(tmp_path: Path) -> None:
    task = task_of("math500", schemas.write("math500", tmp_path))
    problems = task.problems("test")
    attempts = [
        Attempt(problem, f"Thus \\boxed{{{other}}}.", True)
        for problem, (_, other) in zip(problems, schemas.MATH500_ANSWERS, strict=True)
    ]
    verdicts = task.verdicts(attempts)
    assert [a.text for a, verdict in zip(attempts, verdicts, strict=True) if verdict != "correct"] == []


def test_the_benchmarks_are_for_testing_and_dapo_for_training() -> None:
    assert {shipped(name).shares.test for name in MATHS[:-1]} == {100}
    assert shipped("dapo_math").shares.rl == 98


def test_splits_are_disjoint_and_keep_their_problems_when_rows_are_added(tmp_path: Path) -> None:
    shares = SharesConfig(rl=50, validation=25, test=25)
    path = schemas.write("dapo_math", tmp_path)
    before = [{p.id for p in task_of("dapo_math", path, shares=shares).problems(split)} for split in SPLITS]
    assert all(before)
    assert sum(map(len, before)) == len(set.union(*before)) == schemas.SIZE
    path.write_text(json.dumps({"prompt": "What is $1+1$?", "solution": "2"}) + "\n" + path.read_text())
    after = [{p.id for p in task_of("dapo_math", path, shares=shares).problems(split)} for split in SPLITS]
    assert all(old <= new for old, new in zip(before, after, strict=True))


def test_the_source_of_the_data_is_hashed() -> None:
    overrides = [
        "task.dataset=a/b",
        "task.revision=abc",
        "task.subset=x",
        "task.fields.answer=x",
        "seed=4",
    ]
    hashes = [config_hash(compose(["task=aime2024", override])) for override in overrides]
    assert len(set(hashes)) == len(overrides)
    assert hashes[-1] == config_hash(compose(["task=aime2024"]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 3, "problem": "x"', "line 3: not JSON"),
        ("[1]", "line 3: a JSON object is needed"),
        ('{"id": 3, "problem": "x", "anwser": "1"}', "line 3: no field 'answer' .*did you mean 'anwser'"),
        ('{"id": 3, "problem": "x", "answer": [1]}', "line 3: answer holds list"),
        ('{"id": 60, "problem": "x", "answer": "1"}', "line 3: a second problem with the id '60'"),
        ('{"id": 3, "problem": "x", "answer": "$ $"}', "line 3: an empty reference answer"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = schemas.write("aime2024", tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(RequestError, match=message):
        task_of("aime2024", path).problems("test")


def test_a_reference_beyond_the_caps_is_named_and_compared_as_text(tmp_path: Path, caplog) -> None:
    path = schemas.write("aime2024", tmp_path)
    tower = "9^{9^{9^{9}}}"
    row = json.dumps({"id": 3, "problem": "How many?", "answer": f"${tower}$"})
    path.write_text(path.read_text() + row)
    task = task_of("aime2024", path)
    with caplog.at_level("WARNING"):
        problem = next(problem for problem in task.problems("test") if problem.id == "3")
    assert [message for message in caplog.messages if "line 21" in message and tower in message]
    assert judge(task, problem, f"\\boxed{{{tower}}}") == "correct"
    assert judge(task, problem, "\\boxed{5}") == "wrong"
    assert judge(task, problem, "\\boxed{9^{9^{9^{8}}}}") == "unparseable"


def test_products_of_powers_and_factorials_are_judged(tmp_path: Path) -> None:
    pairs = [
        ("x^2y^2z^2", "z^{2}y^{2}x^{2}"),
        ("2^{10}3^{5}7^{2}", "12192768"),
        ("\\frac{(2n)!}{n!}", "\\frac{(2n)!}{n!}"),
    ]
    rows = [{"id": i, "problem": f"Problem {i}", "answer": gold} for i, (gold, _) in enumerate(pairs)]
    path = tmp_path / "powers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = task_of("aime2024", path)
    for problem, (gold, other) in zip(task.problems("test"), pairs, strict=True):
        assert judge(task, problem, f"\\boxed{{{gold}}}") == "correct"
        assert judge(task, problem, f"\\boxed{{{other}}}") == "correct"
        assert judge(task, problem, "\\boxed{x^2y^2z^3}") == "wrong"


def test_a_missing_file_is_a_request_error(tmp_path: Path) -> None:
    for name, message in [("none.jsonl", "cannot read"), ("none.parquet", "no such file")]:
        with pytest.raises(RequestError, match=message):
            task_of("aime2024", tmp_path / name).problems("test")


def test_a_truncated_answer_is_truncated(tmp_path: Path) -> None:
    task = task_of("aime2024", schemas.write("aime2024", tmp_path))
    problem = task.problems("test")[0]
    assert judge(task, problem, "\\boxed{401}", finished=False) == "truncated"
    assert judge(task, problem, "no box") == "unparseable"


ODD = [
    ("2", "3=2", "wrong"),
    ("2", "x=3=2", "wrong"),
    ("6", "2+3=6", "wrong"),
    ("11", r"\binom{5}{2}=11", "wrong"),
    ("5", "2+3=5", "correct"),
    ("2", "x=2", "correct"),
    ("0.33", r"\frac{1}{3}=0.33", "correct"),
    ("(1,2)", "(x,y)=(1,2)", "correct"),
    (r"\{1,2\}", "(1,2)", "wrong"),
    (r"\{1,2\}", r"\left[1,2\right]", "wrong"),
    ("(1,2)", r"\{1,2\}", "wrong"),
    (r"\{1,2\}", r"\left\{2,1\right\}", "correct"),
    ("1,2", "(1,2)", "correct"),
    ("1,2", r"\{1,2\}", "correct"),
    ("[0,1)", "(0,1)", "wrong"),
    ("5", r"5\text{ not}", "wrong"),
    ("5", r"5\text{ million}", "wrong"),
    ("3", r"3\text{ mod }5", "wrong"),
    ("5", r"5\text{ apples}", "correct"),
    ("5", r"5 \text{ times}", "correct"),
    ("2", "2_3", "wrong"),
    ("25", "31_8", "wrong"),
    ("2", "2_{10}", "correct"),
    ("2516_8", "2516", "correct"),
    ("2", r"\phantom{2}", "unparseable"),
    ("2", r"2\hphantom{3}", "correct"),
]


def test_what_math_verify_accepts_without_reason_is_refused(tmp_path: Path) -> None:
    rows = [
        {"problem": f"Problem {i}", "solution": "", "answer": gold, "unique_id": str(i)}
        for i, (gold, _, _) in enumerate(ODD)
    ]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = task_of("math500", path)
    problems = {problem.id: problem for problem in task.problems("test")}
    attempts = [Attempt(problems[str(i)], f"So \\boxed{{{answer}}}.", True) for i, (_, answer, _) in enumerate(ODD)]
    verdicts = task.verdicts(attempts)
    given = [(gold, answer, verdict) for (gold, answer, _), verdict in zip(ODD, verdicts, strict=True)]
    assert given == ODD
