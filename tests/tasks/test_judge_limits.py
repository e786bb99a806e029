"""Values of programs and answers are compared within limits, and a failure of the judge is reported as such."""

import resource
import tracemalloc
from types import SimpleNamespace

import pytest
from bubblewrap import require_bubblewrap

from progrpo_cli.errors import WorkError
from progrpo_cli.tasks.base import Attempt, Problem
from progrpo_cli.tasks.code import task as code_task
from progrpo_cli.tasks.code.checking import Call, Calls, CheckCode, judge, same_output
from progrpo_cli.tasks.code.program import Limits
from progrpo_cli.tasks.code.sandbox import Sandbox
from progrpo_cli.tasks.code.task import Code
from progrpo_cli.tasks.judge_errors import JudgeErrors
from progrpo_cli.tasks.maths.normalisation import normalise
from progrpo_cli.tasks.maths.text_comparison import compare

CALLS = Calls("f", (Call([1], 42),))
CHECK = CheckCode("", "def check(candidate):\n    assert candidate(1) == 42\n", "f")
LIMITS = Limits(seconds=3.0, memory=256 << 20)
REPLIES = {
    "colliding hashes": r"""'["set"' + ''.join(', ' + str(i * (2**61 - 1)) for i in range(1, 60000)) + ']'""",
    "a complex number of 400 digits": r"""'["complex", ' + '9' * 400 + ', 0]'""",
    "an integer of 5,000 digits": r"""'9' * 5000""",
    "deep": r"""'[' * 100000""",
    "many values": r"""'["list"' + ', ["list"]' * 500000 + ']'""",
    "not a plain value": r"""'{"a": 1}'""",
    "nothing": r"""''""",
}
"""Values that a program writes itself, bypassing the driver's encoding."""
REPLY = r"""
import os
def f(x):
    message = ('{"value": ' + {reply} + '}\n').encode()
    for descriptor in range(3, 9):
        try:
            sent = 0
            while sent < len(message): sent += os.write(descriptor, message[sent:])
        except OSError: pass
    os._exit(0)
"""


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    require_bubblewrap()
    return Sandbox("bubblewrap", "test")


@pytest.mark.parametrize("tests", [CALLS, CHECK], ids=["calls", "check"])
@pytest.mark.parametrize("name", REPLIES)
def test_hostile_values_cost_this_process_no_time(sandbox: Sandbox, name: str, tests: Calls | CheckCode) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    verdict = judge(sandbox, REPLY.replace("{reply}", REPLIES[name]), tests, LIMITS)
    assert verdict in ("wrong", "timeout", "memory")
    if name == "colliding hashes":
        assert verdict == "timeout"
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 1.5


def test_running_out_of_memory_has_its_own_verdict(sandbox: Sandbox) -> None:
    for source in ("def f(x): return bytes(1 << 40)", "x = [bytes(1 << 20) for _ in range(1 << 20)]"):
        for tests in (CALLS, CHECK):
            assert judge(sandbox, source, tests, LIMITS) == "memory"


def test_a_program_has_limits_while_its_answer_is_compared(sandbox: Sandbox) -> None:
    source = (
        "import os, time\ndef f(x):\n    for _ in range(8):\n        if os.fork() == 0:\n            time.sleep(1)\n"
        "            held = b'x' * (100 << 20)\n            time.sleep(1000)\n    return 42"
    )
    slow = CheckCode("", "import time\ndef check(candidate):\n    assert candidate(1) == 42\n    time.sleep(15)\n", "f")
    assert judge(sandbox, source, slow, Limits(seconds=20.0, memory=256 << 20)) == "memory"


@pytest.mark.parametrize(
    ("printed", "expected"), [("\n" * 8_000_000 + "x", "1"), ("1 " * 4_000_000, "2"), ("1\n" * 4_000_000, "1\n2")]
)
def test_comparing_output_does_not_copy_it(printed: str, expected: str) -> None:
    tracemalloc.start()
    try:
        assert not same_output(printed, expected)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("1_0", "10", False),
        ("１０", "10", False),
        ("1\x1c2", "1\n2", False),
        ("1\u20282", "1\n2", False),
        ("1 2\r\n3", "1 2\n3", True),
        ("1.50 +2", "1.5 2.0", True),
        ("1e3", "1000", True),
        ("1e9999999999", "1", False),
        ("1 2", "1 2 3", False),
        ("1 2 3", "1 2", False),
        ("-0", "0", True),
        (".5", "0.5", True),
    ],
)
def test_numbers_and_lines_are_read_as_in_the_benchmarks(printed: str, expected: str, same: bool) -> None:
    assert same_output(printed, expected) is same


def test_integers_with_more_digits_than_python_reads() -> None:
    long = normalise("9" * 5000)
    assert not compare(long, "9")
    assert not compare("9", long)
    assert compare(long, long) is True


def test_a_sandbox_that_fails_is_an_error_for_that_answer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_judge(sandbox: object, source: str, tests: object, limits: object) -> str:
        if "bad" in source:
            raise WorkError("the sandbox does not start")
        return "correct"

    monkeypatch.setattr(code_task, "judge", fake_judge)
    task = Code.__new__(Code)
    vars(task).update(name="test", _sandbox=None, _limits=None, _tests={"p": CALLS})
    attempts = [Attempt(Problem("p", ""), text, True) for text in ("good", "bad", "good")]
    assert task.verdicts(attempts) == ["correct", "error", "correct"]


def test_more_than_one_error_in_a_hundred_is_too_many() -> None:
    errors = JudgeErrors()
    errors.count(["error", *["wrong"] * 99], "a rollout")
    assert errors.too_many is None
    errors.count(["error", *["wrong"] * 98], "a rollout")
    assert errors.too_many is not None
    assert "1 of 99" in errors.too_many


def test_training_stops_at_the_next_boundary() -> None:
    from progrpo_cli.training.callbacks import CheckpointPolicy

    errors = JudgeErrors()
    policy = CheckpointPolicy(100, 2, 0, lambda: bool(errors.too_many))

    def end_step(step: int) -> SimpleNamespace:
        control = SimpleNamespace(should_save=False, should_training_stop=False)
        policy.on_step_end(None, SimpleNamespace(global_step=step, max_steps=100), control)
        return control

    assert not end_step(2).should_training_stop
    errors.count(["error"], "a rollout")
    assert not end_step(3).should_training_stop
    assert end_step(4).should_training_stop
    assert end_step(4).should_save
