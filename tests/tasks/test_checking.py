"""Judging programs by calls and by output: preloaded names, exit status, long input, values in lists."""

import json

import pytest
from bubblewrap import require_bubblewrap

from progrpo_cli.errors import WorkError
from progrpo_cli.tasks.code.checking import Call, Calls, CheckCode, Outputs, judge
from progrpo_cli.tasks.code.formats import read_tests
from progrpo_cli.tasks.code.program import Limits
from progrpo_cli.tasks.code.sandbox import Sandbox

LIMITS = Limits(seconds=10.0, memory=256 << 20)
ONE = Outputs((("1 1 2\n", "3"),))


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    require_bubblewrap()
    return Sandbox("bubblewrap", "test")


@pytest.mark.parametrize(
    "source",
    [
        "class Solution:\n    def f(self, xs: List[int]) -> int: return max(Counter(xs).values())",
        "def f(xs: Optional[list]): return reduce(add, [1 for _ in accumulate(xs)]) - 1",
        "@lru_cache(None)\ndef g(n): return 2 if n == 0 else g(n - 1)\ndef f(xs): return gcd(g(100), math.comb(4, 1))",
        "def f(xs): return len(re.findall('1', string.digits + str(heapq.nsmallest(1, xs)[0])))",
        "def f(xs): return pow(2, 1, 5) if bisect_left(xs, 2) == bisect.bisect_left(xs, 2) else 0",
        "from __future__ import annotations\ndef f(xs: nothing): return 2",
        "def g(n): return 2 if n == 0 else g(n - 1)\ndef f(xs): return g(20_000)",
    ],
)
def test_functions_can_use_the_names_that_benchmarks_preload(sandbox: Sandbox, source: str) -> None:
    assert judge(sandbox, source, Calls("f", (Call([[1, 1, 2]], 2),)), LIMITS) == "correct"


@pytest.mark.parametrize(
    "source",
    [
        "print(sum(Counter(input().split()).values()))",
        "print(len(sys.stdin.read().split()))",
        "print(len(stdin.readline().split()))",
        "if __name__ == '__main__': print(lcm(1, 3))",
        "import os; print(len(os.read(0, 99).split()))",
    ],
)
def test_programs_can_use_the_names_that_benchmarks_preload(sandbox: Sandbox, source: str) -> None:
    assert judge(sandbox, source, ONE, LIMITS) == "correct"


@pytest.mark.parametrize(
    "source",
    ["def add(a: List[int], b): return a + b", "def add(a: nothing, b): return a + b", "def add(a, b): math.inf"],
)
def test_nothing_is_preloaded_if_the_prompt_has_the_imports(sandbox: Sandbox, source: str) -> None:
    """The driver's own ``from __future__ import annotations`` is not inherited either."""
    tests = CheckCode("", "def check(candidate):\n    candidate(1, 2)\n", "add")
    assert judge(sandbox, source, tests, LIMITS) == "wrong"
    assert judge(sandbox, "def add(a: int, b): return a + b", tests, LIMITS) == "correct"


def test_annotations_are_evaluated(sandbox: Sandbox) -> None:
    assert judge(sandbox, "def f(x: nothing): return 1", Calls("f", (Call([1], 1),)), LIMITS) == "wrong"


@pytest.mark.parametrize("end", ["", "exit()", "quit(0)", "sys.exit()", "raise SystemExit", "import os; os._exit(0)"])
def test_a_program_may_exit(sandbox: Sandbox, end: str) -> None:
    assert judge(sandbox, f"print(3, flush=True)\n{end}", ONE, LIMITS) == "correct"


@pytest.mark.parametrize(
    "end",
    [
        *(
            "1 / 0",
            "exit(1)",
            "quit('no')",
            "sys.exit(3)",
            "import os; os._exit(7)",
            "import os; os.kill(os.getpid(), 9)",
        ),
        "import os; os.close(1); os.abort()",
    ],
)
def test_a_right_output_before_a_crash_is_wrong(sandbox: Sandbox, end: str) -> None:
    assert judge(sandbox, f"print(3, flush=True)\n{end}", ONE, LIMITS) == "wrong"


def test_a_program_that_closes_its_output_and_hangs_is_a_timeout(sandbox: Sandbox) -> None:
    source = "import os\nprint(3, flush=True)\nos.close(1)\nwhile True: pass"
    assert judge(sandbox, source, ONE, Limits(seconds=1.0)) == "timeout"


def test_input_and_expected_output_may_exceed_the_limits_on_files_and_output(sandbox: Sandbox) -> None:
    long = "7 " * (3 << 20)
    assert len(long) > LIMITS.file_size
    assert judge(sandbox, "print(len(input()))", Outputs(((long, str(len(long))),)), LIMITS) == "correct"
    assert judge(sandbox, "open('x', 'w').write(input())", Outputs(((long, ""),)), LIMITS) == "wrong"
    output = "7" * (LIMITS.output + 1)
    assert judge(sandbox, f"print('7' * {len(output)})", Outputs((("", output),)), LIMITS) == "correct"
    assert judge(sandbox, f"print('7' * {2 * len(output)})", Outputs((("", output),)), LIMITS) == "wrong"


def test_an_input_that_does_not_fit_is_an_error_not_a_verdict(sandbox: Sandbox) -> None:
    with pytest.raises(WorkError, match="No space left"):
        judge(sandbox, "print(1)", Outputs((("7" * (33 << 20), "1"),)), Limits(seconds=10.0))


@pytest.mark.parametrize(
    ("output", "right", "wrong"),
    [
        ([5], ["5", "[5]", "(5,)"], ["[[5]]", "6", "[]"]),
        ([[1, 2]], ["[1, 2]", "[[1, 2]]", "(1, 2)"], ["[1]", "1"]),
        ([1, 2], ["[1, 2]"], ["1", "[[1, 2]]"]),
        (5, ["5"], ["[5]"]),
        ([], ["[]"], ["None"]),
    ],
)
def test_a_list_of_one_value_accepts_the_list_and_the_value(sandbox: Sandbox, output, right, wrong) -> None:
    tests = read_tests("row 1", json.dumps([{"fn_name": "f", "input": [0], "output": output}]), entry=None)
    for values, verdict in ((right, "correct"), (wrong, "wrong")):
        verdicts = {value: judge(sandbox, f"def f(x): return {value}", tests, LIMITS) for value in values}
        assert verdicts == dict.fromkeys(values, verdict)


def test_livecodebench_does_not_wrap_values_in_lists(sandbox: Sandbox) -> None:
    tests = read_tests("row 1", json.dumps([{"input": "0", "output": "[5]"}]), entry="f")
    assert judge(sandbox, "def f(x): return [5]", tests, LIMITS) == "correct"
    assert judge(sandbox, "def f(x): return 5", tests, LIMITS) == "wrong"
