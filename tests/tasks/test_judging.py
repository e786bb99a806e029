"""The pool of judging processes: every answer gets a verdict within its limit, and the pool survives."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from progrpo_cli.errors import WorkError
from progrpo_cli.tasks.judging.pool import FIRST_BUDGET, SECOND_BUDGET, JudgePool, _ParentDied

LIMIT = 1.5
"""Seconds: more than an ordinary answer waits for a core on a busy machine."""


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    pool = JudgePool("scripted_judge", workers=2, limit=LIMIT, memory=1 << 30)
    yield pool
    pool.close()


def judge(pool: JudgePool, *texts: str) -> list[str]:
    return pool.judge([{"answer": text} for text in texts])


def test_every_answer_gets_its_verdict_in_order(pool: JudgePool) -> None:
    texts = ["right", "hang", "wrong", "raise", "die", "right", "memory", "recursion", "sleep", "right"] * 3
    expected = {"right": "correct", "hang": "timeout", "raise": "unparseable", "die": "error", "memory": "memory"}
    expected |= {"recursion": "unparseable"}
    assert judge(pool, *texts) == [expected.get(text, "wrong") for text in texts]
    assert judge(pool, "right", "wrong") == ["correct", "wrong"]
    assert judge(pool) == []


def test_ordinary_answers_do_not_wait_for_hostile_ones(pool: JudgePool) -> None:
    order = []
    pool.judge([{"answer": text} for text in ["hang"] * 4 + ["right"] * 50], lambda i, answer: order.append(answer))
    assert order == ["correct"] * 50 + ["timeout"] * 4


def test_slow_answers_do_not_wait_for_hostile_ones(pool: JudgePool) -> None:
    """They need more than the first budget, and there are more of both kinds than fit into the background."""
    order = []
    pool.judge([{"answer": text} for text in ["hang", "slow"] * 6 + ["right"]], lambda i, answer: order.append(answer))
    assert order == ["correct"] * 7 + ["timeout"] * 6


def test_costly_answers_start_last(pool: JudgePool) -> None:
    order = []
    texts = ["wrong", "wrong", "right", "slow", "right"]
    results = pool.judge([{"answer": text} for text in texts], lambda i, result: order.append(i), costly={0, 1})
    assert results == ["wrong", "wrong", "correct", "correct", "correct"]
    assert sorted(order[-2:]) == [0, 1]


def test_each_answer_is_limited(pool: JudgePool) -> None:
    """Measured in processor time, because wall-clock time depends on what else the machine does."""
    judge(pool, "right")
    (parent, *_) = [psutil.Process(pid) for pid in pool.pids()]
    before = parent.cpu_times().children_user
    assert judge(pool, *["hang"] * 4) == ["timeout"] * 4
    used = parent.cpu_times().children_user - before  # of the workers that were killed because they hung
    assert 0 < used < 4 * (LIMIT + FIRST_BUDGET + SECOND_BUDGET) + 1


def test_a_killed_pool_starts_again(pool: JudgePool) -> None:
    judge(pool, "right", "right")
    for pid in pool.pids()[::-1]:
        os.kill(pid, signal.SIGKILL)
    assert judge(pool, "right", "wrong", "right")[1] == "wrong"
    assert judge(pool, *["right"] * 5) == ["correct"] * 5


def test_workers_end_with_their_parent(pool: JudgePool) -> None:
    judge(pool, "sleep", "sleep")
    processes = [psutil.Process(pid) for pid in pool.pids()]
    assert len(processes) >= 2
    os.kill(processes[0].pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes[1:], timeout=5)
    assert alive == []


def test_a_worker_cannot_write_files_start_processes_or_connect(pool: JudgePool, tmp_path: Path) -> None:
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
        assert judge(pool, f"eval {expression}", "eval 1 + 1") == ["unparseable", "2"], expression
    assert not (tmp_path / "x").exists()


def test_a_module_that_cannot_be_imported_is_an_error() -> None:
    with pytest.raises(WorkError, match="does not start"):
        JudgePool("no_such_module", workers=1).judge([{}])


def test_a_parent_that_keeps_dying_gives_errors(pool: JudgePool, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> bytes:
        raise _ParentDied

    monkeypatch.setattr(pool, "_command", die)
    assert judge(pool, "right", "wrong") == ["error", "error"]
