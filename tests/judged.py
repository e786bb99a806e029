"""Judge a single completion."""

from progrpo_cli.tasks.base import Attempt, Problem, Task, Verdict


def judge(task: Task, problem: Problem, text: str, *, finished: bool = True) -> Verdict:
    (verdict,) = task.verdicts([Attempt(problem, text, finished)])
    return verdict
