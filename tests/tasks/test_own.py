"""A user's own task: a file with exact answers, or with a verdict function."""

import json
from functools import cache
from pathlib import Path

import pytest
import schemas
from command_line import CommandLine
from judged import judge

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.tasks.base import SPLITS
from progrpo_cli.tasks.config import OwnConfig
from progrpo_cli.tasks.own import Own, extract_answer, same_answer
from progrpo_cli.tasks.registry import make_task

FUNCTION = """
def judge(problem, text):
    if not text:
        return "unparseable"
    if text == "odd":
        return 3
    if text == "bad":
        raise ValueError("as asked")
    return len(text) == problem["length"]
"""


@cache
def shipped() -> OwnConfig:
    return compose(["task=own"]).task


def task_of(path: Path, **changes: object) -> Own:
    return make_task(shipped().model_copy(update={"dataset": str(path), **changes}))


def test_exact_answers(tmp_path: Path) -> None:
    task = task_of(schemas.write("own", tmp_path))
    problems = [problem for split in SPLITS for problem in task.problems(split)]
    assert len(problems) == schemas.SIZE
    for problem in problems:
        answer = problem.prompt.split()[1][::-1]
        assert judge(task, problem, f"Let me see.\n{answer}\n") == "correct"
        assert judge(task, problem, f"\\boxed{{{answer}}}, I think") == "correct"
        assert judge(task, problem, answer + "a") == "wrong"
        assert judge(task, problem, "\n") == "unparseable"
        assert judge(task, problem, answer, finished=False) == "truncated"


@pytest.mark.parametrize(("text", "answer"), [("a\n b \n\n", "b"), ("\\boxed{1} \\boxed{2}", "2"), ("\\boxed{1", "")])
def test_extracting_the_answer(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


def test_numbers_are_compared_as_numbers() -> None:
    assert same_answer("1.50", "1.5")
    assert same_answer("1e3", "1000")
    assert not same_answer("one", "1")
    assert not same_answer("9" * 10**6, "1")


def test_a_verdict_function_by_import_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_verdicts_of_a_test.py").write_text(FUNCTION)
    Path("p.jsonl").write_text("".join(json.dumps({"q": f"{n} letters", "length": n}) + "\n" for n in range(1, 30)))
    fields = shipped().fields.model_copy(update={"question": "q", "answer": None})
    task = task_of(Path("p.jsonl"), fields=fields, verdict="own_verdicts_of_a_test:judge")
    for problem in task.problems("rl"):
        length = int(problem.prompt.split()[0])
        assert judge(task, problem, "x" * length) == "correct"
        assert judge(task, problem, "x" * (length + 50)) == "wrong"
        assert judge(task, problem, "") == "unparseable"
    for text, message in [("odd", "returned 3"), ("bad", "ValueError: as asked")]:
        with pytest.raises(WorkError, match=message):
            judge(task, problem, text)
    for path, message in [
        ("own_verdicts_of_a_test:jugde", "did you mean 'judge'"),
        ("no_such_file:judge", "cannot import"),
    ]:
        with pytest.raises(RequestError, match=message):
            task_of(Path("p.jsonl"), fields=fields, verdict=path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 4: not JSON"),
        ('{"prompt": "x"}', "line 4: no field 'answer'"),
        ('{"prompt": "x", "answer": " "}', "line 4: an empty answer"),
        ('{"prompt": ["x"], "answer": "y"}', "line 4: prompt holds list"),
        ('"x"', "line 4: a JSON object is needed, not str"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = schemas.write("own", tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[4:]]))
    with pytest.raises(RequestError, match=message):
        task_of(path).problems("rl")


def test_neither_answers_nor_a_function_is_refused() -> None:
    with pytest.raises(RequestError, match=r"either fields.answer or verdict"):
        compose(["task=own", "task.fields.answer=null"])


@pytest.mark.long
def test_training_and_evaluation_of_an_own_task(progrpo: CommandLine) -> None:
    """From training to evaluation, with the lab's policy on problems that it can solve."""
    lines = [{"prompt": f"{a} 1 1 1={a}:", "answer": f"{a}*1*1*1", "id": f"p{a}"} for a in range(1, 10)]
    (progrpo.directory / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = ["task=own", "task.dataset=mine.jsonl", "task.name=mine", "task.fields.id=id", "task.chat=false"]
    own += [
        "task.max_new_tokens=24",
        "task.shares.rl=40",
        "task.shares.validation=30",
        "task.shares.test=30",
        "task.verdict=mine:judge",
    ]
    (progrpo.directory / "mine.py").write_text("def judge(problem, text):\n    return '1' in text\n")
    tiny = ["train.steps=2", "train.prompts_per_rollout=4", "train.group_size=4"]
    run = progrpo.json("train", "--run-dir", "run", *own, *tiny)
    assert run["status"] == "finished"
    scores = progrpo.json("eval", "run", "--k", "1,2")
    assert scores["task"] == "mine"
    assert scores["problems"] >= 1
    assert 0 < scores["pass@2"]["value"] <= 1
    tasks = ["--tasks", "own", *(part for key in own[1:] for part in ("--set", key))]
    base = progrpo.json("eval", "progrpo/lab-base", "--k", "1", *tasks)
    assert [row[0] for row in base["counts"]] == [row[0] for row in scores["counts"]]
    changed = [{**line, "answer": "another"} for line in lines]
    (progrpo.directory / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    refused = progrpo("eval", "progrpo/lab-base", "--k", "1", *tasks, "-q")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "samples of other problems than the task has now; --fresh" in refused.stderr
    progrpo.json("eval", "progrpo/lab-base", "--k", "1", "--fresh", *tasks)
    bad = progrpo("eval", "progrpo/lab-base", "--k", "1", "--tasks", "own", "--set", "task.datset=x")
    assert bad.returncode == 2
    assert "task.dataset" in bad.stderr
