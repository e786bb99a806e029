"""reasoning-gym's generators as tasks, judged on the package's own answers."""

import pytest
from judged import judge

from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.base import SPLITS, Attempt
from progrpo_cli.tasks.reasoning_gym.judge import generator
from progrpo_cli.tasks.reasoning_gym.task import ReasoningGym
from progrpo_cli.tasks.registry import make_task

FEW = ["task.rl_problems=6", "task.validation_problems=3", "task.test_problems=3"]


def task_of(name: str, *overrides: str) -> ReasoningGym:
    return make_task(compose(["task=reasoning_gym", f"task.generator={name}", *FEW, *overrides]).task)


def answer_to(name: str, prompt: str) -> str:
    entries = (generator(name, 0)[index] for index in range(1000))
    return next(entry["answer"] for entry in entries if entry["question"] in prompt)


@pytest.mark.parametrize("name", ["gsm_symbolic", "basic_arithmetic", "spell_backward", "n_queens", "simple_equations"])
def test_the_generators_own_answers_are_right_and_other_answers_wrong(name: str) -> None:
    task = task_of(name)
    problems = [problem for split in SPLITS for problem in task.problems(split)]
    assert len({problem.id for problem in problems}) == 12
    answers = [answer_to(name, problem.prompt) for problem in problems]
    right = [Attempt(p, f"So <answer>{a}</answer>", True) for p, a in zip(problems, answers, strict=True)]
    assert task.verdicts(right) == ["correct"] * 12
    wrong = [Attempt(p, "So <answer>no idea</answer>", True) for p in problems]
    assert set(task.verdicts(wrong)) <= {"wrong", "unparseable"}
    assert judge(task, problems[0], right[0].text, finished=False) == "truncated"


def test_asking_for_more_problems_keeps_the_first_ones() -> None:
    few, more = task_of("gsm_symbolic"), task_of("gsm_symbolic", "task.rl_problems=20", "task.test_problems=9")
    for split in SPLITS:
        assert more.problems(split)[: len(few.problems(split))] == few.problems(split)


def test_code_in_an_answer_cannot_write_files(tmp_path) -> None:
    """reasoning-gym passes answers to n_queens to ``eval``."""
    task = task_of("n_queens")
    bad = f"open({str(tmp_path / 'x')!r}, 'w')"
    assert judge(task, task.problems("test")[0], f"<answer>{bad}</answer>") == "wrong"
    assert not (tmp_path / "x").exists()


def test_the_generator_is_part_of_the_task_name_and_of_the_hash() -> None:
    names = ["gsm_symbolic", "spell_backward"]
    assert [task_of(name).name for name in names] == [f"reasoning_gym-{name}" for name in names]
    sections = [["task=reasoning_gym", f"task.generator={name}"] for name in names]
    assert len({config_hash(compose(overrides)) for overrides in [*sections, ["task=reasoning_gym", *FEW]]}) == 3


def test_an_unknown_generator_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RequestError, match="did you mean 'gsm_symbolic'"):
        task_of("gsm_symbolc")
    with pytest.raises(RequestError, match="cannot be used as it is"):
        task_of("composite").problems("test")
