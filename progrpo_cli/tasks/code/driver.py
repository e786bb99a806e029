"""The program that runs inside a sandbox: ``python -I -S -c <this file>``, with only the standard library.

The first line on standard input is the task in JSON. The policy's code, which answers calls, and a benchmark's tests,
which make them, run in two processes. So the policy's code sees neither the tests nor the expected values, and cannot
report a result for the tests. Its return values are rebuilt in the other process from plain values.

Our own preparations end with the line "started". If they fail, there is no verdict.
"""

from __future__ import annotations

import builtins
import json
import math
import os
import resource
import sys
import threading
import types
from decimal import Decimal
from typing import Any

PRELUDE = """
typing string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json
builtins
"""
"""Modules that LiveCodeBench's public runner imports, with all their names, before a program starts."""


TOLERANCE = Decimal("1e-6")
"""The tolerance for floats, as in the graders of APPS, TACO and DeepCoder. Integers are compared exactly."""
OUT_OF_MEMORY = 77
"""Exit status of a program that ended with a MemoryError."""


def main() -> None:
    lines = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="surrogatepass")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogatepass")
    task = json.loads(lines.readline())
    names = vars(make_module("__main__" if task["mode"] == "program" else "solution"))
    try:
        set_up(task, names)
    except Exception as error:
        replies.write(f"{type(error).__name__}: {error}\n")
        return
    replies.write("started\n")
    replies.flush()
    null = os.open(os.devnull, os.O_RDWR)
    if task["mode"] == "program":
        lines.close()
        replies.close()
        try:
            execute(compile_source(task["source"]), names, task)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        return
    if task["mode"] == "compile":
        try:
            compile_source(task["source"])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            replies.write('{"unparseable": true}\n')
        replies.close()
        return
    os.dup2(null, 0)
    os.dup2(null, 1)

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    if task["mode"] == "tests":
        sys.path.append("/packages")
        run_tests(task, lines, reply)
    elif task["mode"] == "compare":
        compare(task, lines, reply)
    else:
        serve_calls(task, names, lines, reply)


def make_module(name: str) -> types.ModuleType:
    """Create the module that the program runs in. It can be imported, as dataclasses and pickle require."""
    module = types.ModuleType(name)
    module.__file__ = f"{name.strip('_')}.py"
    sys.modules[name] = module
    return module


def set_up(task: dict[str, Any], names: dict[str, Any]) -> None:
    """Change the user, provide the input and the expected names, and then set the limits."""
    if task["uid"]:
        os.setgroups([])
        os.setgid(task["uid"])
        os.setuid(task["uid"])
    sys.set_int_max_str_digits(0)  # programs may print integers of any length; the time limit bounds the cost
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # `-S` skips `site`, which defines them
    if task["mode"] == "program":
        replace_stdin(task.pop("input"))  # before the limit on the size of files, which is for the program's files
    if task.get("prelude"):
        sys.path.append("/packages")
        import_prelude(names)
        cap_stacks(task["limits"]["RLIMIT_AS"] // 4)
    for name, value in task["limits"].items():
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (lower, lower))


def cap_stacks(largest: int) -> None:
    """Cap the stack size of threads. Contest programs request 1 GB, with which no thread could start here."""
    stack_size = threading.stack_size
    threading.stack_size = lambda size=0: stack_size(min(size, largest))


def replace_stdin(text: str) -> None:
    """Make ``text`` the standard input. It is a file because programs may seek in it or read its descriptor."""
    with open("input", "w+", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)
        file.flush()
        os.lseek(file.fileno(), 0, 0)
        os.dup2(file.fileno(), 0)
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogatepass", closefd=False)


def import_prelude(names: dict[str, Any]) -> None:
    """Import all names of the modules in ``PRELUDE``, later modules overriding earlier ones, then the modules."""
    modules = PRELUDE.split()
    exec(
        "\n".join([f"from {module} import *" for module in modules] + [f"import {module}" for module in modules]), names
    )


def execute(code: Any, names: dict[str, Any], task: dict[str, Any]) -> None:
    """Run a program with the recursion limit of the benchmark's runner, too high for compiling, which recurses in C."""
    if task.get("prelude"):
        sys.setrecursionlimit(50_000)
    exec(code, names)


def compile_source(source: str, name: str = "solution") -> Any:
    """Compile a program without this file's own ``from __future__`` imports."""
    return compile(source, name, "exec", dont_inherit=True)


def serve_calls(task: dict[str, Any], names: dict[str, Any], lines: Any, reply: Any) -> None:
    try:
        parts = [compile_source(part) for part in source_parts(task)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        reply({"unparseable": True})
        return
    try:
        for code in parts:
            execute(code, names, task)
        entry, solution = task["entry"], names.get("Solution")
        is_method = isinstance(solution, type) and hasattr(solution, entry)
        function = getattr(names["Solution"](), entry) if is_method else names[entry]
        raised = ""
    except BaseException as error:
        raised = type(error).__name__
    if raised:
        names.clear()  # frees the program's memory
        reply({"raised": raised})
        return
    reply({"ready": True})
    for line in lines:
        call = decode(json.loads(line)["call"])
        try:
            message = {"value": encode(function(*call[0], **call[1]))}
        except BaseException as error:
            message = {"raised": type(error).__name__}
        reply(message)


def source_parts(task: dict[str, Any]) -> list[str]:
    """Return the sources to run in order: the prompt's code and the program, joined if that is a function's body."""
    context, source = task.get("context", ""), task["source"]
    if not context:
        return [source]
    try:
        compile_source(context)
        compile_source(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [f"{context}\n{source}"]
    return [context, source]


def run_tests(task: dict[str, Any], lines: Any, reply: Any) -> None:
    def candidate(*arguments: Any, **named: Any) -> Any:
        reply({"call": encode([list(arguments), named])})
        try:
            message = json.loads(lines.readline())
            message = message if isinstance(message, dict) else {}
            if "value" in message:
                return decode(message["value"])
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            message = {}  # an invalid message: a test that expects one of these errors must not see it
        kind = getattr(builtins, str(message.get("raised")), None)
        raise kind() if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError()

    names: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile_source(task["context"], "context"), names)
        names[task["entry"]] = candidate
        exec(compile_source(task["source"], "tests"), names)
        names["check"](candidate)
    except BaseException as error:
        reply({"failed": type(error).__name__})
    else:
        reply({"passed": True})


def compare(task: dict[str, Any], lines: Any, reply: Any) -> None:
    """Make calls and compare the returned values, which are rebuilt here, within this process's limits.

    Rebuilding a hostile value may take unlimited time (a set whose elements have the same hash) or memory.
    """
    try:
        for call in task["calls"]:
            reply({"call": call["call"]})
            message = json.loads(lines.readline())
            if "value" not in message:
                reply({"failed": message.get("raised")})
                return
            value = decode(message["value"])
            if not any(values_equal(value, decode(expected)) for expected in call["expected"]):
                reply({"failed": "AssertionError"})
                return
    except Exception as error:
        reply({"failed": type(error).__name__})
    else:
        reply({"passed": True})


def values_equal(value: Any, expected: Any) -> bool:
    """Whether plain values are equal, floats within ``TOLERANCE``. A tuple equals a list, as JSON has only lists."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(values_equal, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(values_equal(value[key], expected[key]) for key in expected)
    if isinstance(value, bool) != isinstance(expected, bool):
        return False
    if float in (type(value), type(expected)) and {type(value), type(expected)} <= {int, float}:
        return value == expected or (is_finite(value) and is_finite(expected) and is_close(value, expected))
    return bool(value == expected)


def is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def is_close(value: Any, expected: Any) -> bool:
    """Whether two numbers, at least one of them a float, agree within the tolerance of the benchmarks' graders.

    The tolerance is absolute if an integer, or a number below 1, is expected; else relative.
    """
    difference, size = abs(Decimal(value) - Decimal(expected)), abs(Decimal(expected))
    return difference <= TOLERANCE * (max(Decimal(1), size) if size % 1 else 1)


def encode(value: Any) -> Any:
    """Convert a plain value to JSON. Raises TypeError for other values, including instances of subclasses."""
    kind = type(value)
    if kind is int and value.bit_length() > 13_000:  # other processes read at most 4,300 digits
        return ["int", hex(value)]
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, *(encode(part) for part in value)]
    if kind is dict:
        return ["dict", *([encode(key), encode(part)] for key, part in value.items())]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind is complex:
        return ["complex", value.real, value.imag]
    raise TypeError("not a plain value")


def decode(value: Any) -> Any:
    """Invert :func:`encode`. Untrusted JSON is allowed: only plain values are created."""
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise TypeError("not a plain value")
        return value
    kind, *parts = value
    if kind == "dict":
        return {decode(key): decode(part) for key, part in parts}
    if kind == "int":
        return int(parts[0], 16)
    if kind == "bytes":
        return bytes.fromhex(parts[0])
    if kind == "complex":
        return complex(*parts)
    makers: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return makers[kind](decode(part) for part in parts)


if __name__ == "__main__":
    main()
