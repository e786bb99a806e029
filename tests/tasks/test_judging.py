"""The pool: every answer gets a verdict within its limit, and the pool lives on."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from progrpo_cli.errors import WorkError
from progrpo_cli.tasks.judging.pool import FIRST_BUDGET, SECOND_BUDGET, JudgePool, _ParentDied

LIMIT = 1.5
"""Seconds: so many that no ordinary answer has to wait as long for a processor that others use, too."""


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    made = JudgePool("judging_by_hand", workers=2, limit=LIMIT, memory=1 << 30)
    yield made
    made.close()


def answers(pool: JudgePool, *texts: str) -> list[str]:
    return pool.judge([{"answer": text} for text in texts])


def test_every_answer_gets_its_own_verdict_in_order(pool: JudgePool) -> None:
    texts = ["right", "hang", "wrong", "raise", "die", "right", "memory", "recursion", "sleep", "right"] * 3
    expected = {"right": "correct", "hang": "timeout", "raise": "unparseable", "die": "error", "memory": "memory"}
    expected |= {"recursion": "unparseable"}
    assert answers(pool, *texts) == [expected.get(text, "wrong") for text in texts]
    assert answers(pool, "right", "wrong") == ["correct", "wrong"]
    assert answers(pool) == []


def test_ordinary_answers_do_not_wait_for_hostile_ones(pool: JudgePool) -> None:
    order = []
    pool.judge([{"answer": text} for text in ["hang"] * 4 + ["right"] * 50], lambda i, answer: order.append(answer))
    assert order == ["correct"] * 50 + ["timeout"] * 4


def test_slow_answers_do_not_wait_for_hostile_ones_either(pool: JudgePool) -> None:
    """Slower than the first attempt allows, more of them and of the hostile ones than there is room for aside."""
    order = []
    pool.judge([{"answer": text} for text in ["hang", "slow"] * 6 + ["right"]], lambda i, answer: order.append(answer))
    assert order == ["correct"] * 7 + ["timeout"] * 6


def test_what_looks_costly_is_begun_last(pool: JudgePool) -> None:
    order = []
    texts = ["wrong", "wrong", "right", "slow", "right"]
    answered = pool.judge([{"answer": text} for text in texts], lambda i, answer: order.append(i), costly={0, 1})
    assert answered == ["wrong", "wrong", "correct", "correct", "correct"]
    assert sorted(order[-2:]) == [0, 1]


def test_the_limit_holds_for_each(pool: JudgePool) -> None:
    """On a busy machine the clock goes on and the processor does not: its seconds are what an answer can take away."""
    answers(pool, "right")
    (parent, *_) = [psutil.Process(pid) for pid in pool.pids()]
    before = parent.cpu_times().children_user
    assert answers(pool, *["hang"] * 4) == ["timeout"] * 4
    used = parent.cpu_times().children_user - before  # of the workers that were killed, which are those that hung
    assert 0 < used < 4 * (LIMIT + FIRST_BUDGET + SECOND_BUDGET) + 1


def test_a_killed_pool_starts_again(pool: JudgePool) -> None:
    answers(pool, "right", "right")
    for pid in pool.pids()[::-1]:
        os.kill(pid, signal.SIGKILL)
    assert answers(pool, "right", "wrong", "right")[1] == "wrong"
    assert answers(pool, *["right"] * 5) == ["correct"] * 5


def test_nothing_is_left_behind(pool: JudgePool) -> None:
    answers(pool, "sleep", "sleep")
    processes = [psutil.Process(pid) for pid in pool.pids()]
    assert len(processes) >= 2
    os.kill(processes[0].pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes[1:], timeout=5)
    assert alive == []


def test_a_worker_cannot_write_start_or_connect(pool: JudgePool, tmp_path: Path) -> None:
    for expression in (
        f"open({str(tmp_path / 'x')!r}, 'w')",
        f"__import__('pathlib').Path({str(tmp_path / 'x')!r}).touch()",
        f"__import__('os').system('touch {tmp_path / 'x'}')",
        f"__import__('subprocess').run(['touch', {str(tmp_path / 'x')!r}])",
        "__import__('socket').create_connection(('127.0.0.1', 1))",
        "__import__('os').kill(__import__('os').getppid(), 9)",
        "__import__('os').fork()",
        "__import__('ctypes').CDLL(None)",
    ):
        assert answers(pool, f"eval {expression}", "eval 1 + 1") == ["unparseable", "2"], expression
    assert not (tmp_path / "x").exists()


def test_a_module_that_cannot_be_imported_is_an_error() -> None:
    with pytest.raises(WorkError, match="does not start"):
        JudgePool("no_such_module", workers=1).judge([{}])


def test_a_parent_that_keeps_dying_is_an_error_of_what_is_left(
    pool: JudgePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> bytes:
        raise _ParentDied

    monkeypatch.setattr(pool, "_command", dies)
    assert answers(pool, "right", "wrong") == ["error", "error"]
