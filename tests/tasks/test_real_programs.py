"""Programs of kinds that public reports describe for real models, from ``real_inputs/code.jsonl``."""

import json
import time
from pathlib import Path

import pytest
from bubblewrap import require_bubblewrap

from progrpo_cli.tasks.code.checking import Call, Calls, CheckCode, Outputs, judge, same_output
from progrpo_cli.tasks.code.extraction import extract_code
from progrpo_cli.tasks.code.formats import read_tests
from progrpo_cli.tasks.code.program import Limits
from progrpo_cli.tasks.code.sandbox import Sandbox

ROWS = [json.loads(line) for line in (Path(__file__).parent / "real_inputs" / "code.jsonl").open(encoding="utf-8")]
LIMITS = Limits(seconds=20.0)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    require_bubblewrap()
    return Sandbox("bubblewrap", "test")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_each_program_gets_its_verdict(sandbox: Sandbox, row: dict) -> None:
    if row["kind"] == "check":
        tests = CheckCode(row["tests"]["context"], row["tests"]["tests"], row["tests"]["entry"])
    else:
        packed = row["tests"] if isinstance(row["tests"], str) else json.dumps(row["tests"])
        tests = read_tests("row 1", packed, entry=row["entry"])
    source = extract_code(row["text"], entry=getattr(tests, "entry", None))
    verdict = "unparseable" if source is None else judge(sandbox, source, tests, LIMITS)
    verdict = "timeout" if verdict == "memory" else verdict  # the rows name every limit `timeout`
    assert verdict in row["expect"].split("-or-"), row["note"]


READ = "n = int(input())\nprint(n)"
BLOCK = f"```python\n{READ}\n```"


@pytest.mark.parametrize(
    "text",
    [
        *(f"```{tag}\n{READ}\n```" for tag in ("python", "Python 3", "py3", 'py title="a"', "python3.11", "", "PY")),
        f"````python\n{READ}\n````",
        f"~~~py\n{READ}\n~~~",
        f"```python\n{READ}```",
        f"```python\n{READ}",
        f"I answer in one ```python block. ```python\n{READ}\n```",
        f"In a ``` block:\n{BLOCK}",
        f"So: ```python\n{READ}\n```",
        f"<think>\n```python\nprint(input())\n```\n</think>\n{BLOCK}",
        f"<think>in ```python\n</think>{BLOCK}",
        f"{BLOCK}\nRun it:\n```bash\necho 1 | python a.py\n```",
        f"{BLOCK}\nIt prints\n```\n1\n```",
        f"{BLOCK}\n```text\n1\n```",
        f"{BLOCK}\nTry it:\n```python\nprint('example')\n```",
        f"{BLOCK}\n```python\n>>> n\n1\n```",
        f"```cpp\nint n;\n```\n{BLOCK}",
        "1. Read:\n   ```python\n   n = int(input())\n   print(n)\n   ```\n",
        f"{BLOCK}\n{BLOCK}",
    ],
)  # fmt: skip
def test_extracting_the_program(text: str) -> None:
    code = extract_code(text)
    assert code is not None
    assert code.strip() == READ


@pytest.mark.parametrize("inside", ["# ``` is a fence", 's = "```"', 'print("~~~")', "x = '```python'"])
def test_fences_inside_the_program_do_not_end_it(inside: str) -> None:
    assert extract_code(f"```python\n{inside}\n{READ}\n```") == f"{inside}\n{READ}\n"


def test_the_block_that_defines_the_function_is_the_program() -> None:
    text = "```python\ndef f(x):\n    return x\n```\n```python\nprint(f(input()))\n```"
    assert extract_code(text, entry="f") == "def f(x):\n    return x\n"
    assert extract_code("<think>```python\nprint(1)\n```") is None


@pytest.mark.parametrize(
    "text", ["```\n" * 10**5, "`" * 10**6, "a```" * 10**5, "```python\n" * 10**5, "~~~ ```\n" * 10**5]
)
def test_extraction_takes_linear_time(text: str) -> None:
    start = time.process_time()
    extract_code(text)
    extract_code(text, entry="f")
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "source",
    [
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    a: 'int'\ndef f(x): return P(x).a + 1",
        "import pickle\nclass A: pass\ndef f(x): return x + 1 if pickle.loads(pickle.dumps(A())) else 0",
        "from __future__ import annotations\ndef f(x: nothing): return x + 1",
        "class Solutions: pass\nclass Solution:\n    def g(self): pass\ndef f(x): return x + 1",
        "import numpy as np\ndef f(x): return int(np.int64(x) + 1)",
        "def f(x): return x + 1.0000000001",
    ],
)
def test_functions_run_in_a_module_that_can_be_imported(sandbox: Sandbox, source: str) -> None:
    assert judge(sandbox, source, Calls("f", (Call([1], 2),)), LIMITS) == "correct"


LIMIT_REACHED = ("memory", "timeout")


@pytest.mark.parametrize("source", ["x = [0] * 10**9", "raise MemoryError"])
def test_running_out_of_memory_is_not_wrong(sandbox: Sandbox, source: str) -> None:
    assert judge(sandbox, source, Outputs((("", "1"),)), LIMITS) in LIMIT_REACHED
    body = source.replace("x = ", "return ")
    assert judge(sandbox, f"def f(x): {body}", Calls("f", (Call([1], 2),)), LIMITS) in LIMIT_REACHED
    check = CheckCode('def f(x):\n    """f"""\n', "def check(f):\n    assert f(1) == 1\n", "f")
    assert judge(sandbox, f"    {body}", check, LIMITS) in LIMIT_REACHED


def test_integers_have_any_length(sandbox: Sandbox) -> None:
    long = "1" + "0" * 9000
    tests = read_tests("row 1", json.dumps([{"input": long, "output": long}]), entry="f")
    assert judge(sandbox, "def f(x): return x", tests, LIMITS) == "correct"
    assert judge(sandbox, "def f(x): return x + 1", tests, LIMITS) == "wrong"
    assert judge(sandbox, "print(int(input()) + 1)", Outputs(((long, long[:-1] + "1"),)), LIMITS) == "correct"


def test_only_line_feeds_separate_arguments(sandbox: Sandbox) -> None:
    tests = read_tests("row 1", [{"input": '"a\u0085b"\n"c\u2028d"', "output": "6"}], entry="f")
    assert judge(sandbox, "def f(x, y): return len(x + y)", tests, LIMITS) == "correct"


def test_each_call_and_all_calls_together_have_a_time_limit(sandbox: Sandbox) -> None:
    tests = Calls("f", tuple(Call([i], i) for i in range(6)))
    slow = "import time\ndef f(x):\n    time.sleep(0.5)\n    return x"
    assert judge(sandbox, slow, tests, Limits(seconds=2.5)) == "correct"  # 3 s for all calls
    assert judge(sandbox, slow, tests, Limits(seconds=2.5, seconds_in_all=1.2)) == "timeout"
    assert judge(sandbox, slow.replace("0.5", "5"), tests, Limits(seconds=1.0)) == "timeout"
    program = Outputs((("", "1"),) * 4)
    assert judge(sandbox, "import time; time.sleep(0.6); print(1)", program, Limits(seconds_in_all=1.0)) == "timeout"


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        *(("0.333333", "0.333333333333", True), ("1.0000000001", "1", True), ("0.30000000000000004", "0.3", True)),
        *(("1000000007", "1000000008", False), ("1000000007.5", "1000000008", False), ("0.3334", "0.3333", False)),
        *(("123456789.1", "123456789.2", True), ("inf", "1e400", False), ("nan", "1.0", False), ("1e-9", "0", True)),
        *(("1e-5", "0", False), ("1e999999999", "1e999999998", False), ("-0.0", "0", True), ("2.", "2", True)),
    ],
)
def test_floats_have_a_tolerance_and_integers_do_not(printed: str, expected: str, same: bool) -> None:
    assert same_output(printed, expected) is same
