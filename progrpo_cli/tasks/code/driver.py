"""What runs inside a sandbox, as text: ``python -I -S -c <this file>``. Only the standard library is there.

The first line on standard input says what to do. Two programs never share a process: the policy's code, which answers
calls, and a benchmark's tests, which make them. So that code cannot see the tests, nor what a call should return, nor
speak for the tests; what it returns is rebuilt on the other side from plain values.

All that is ours is done before "started" is said: if it fails, there is no verdict.
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
"""What LiveCodeBench's public runner has imported, by name and as modules, before a program starts."""


TOLERANCE = Decimal("1e-6")
"""Of floats, as the graders of APPS, TACO and DeepCoder have it; integers are exact."""
OUT_OF_MEMORY = 77
"""Exit status of a program that ended with a MemoryError."""


def main() -> None:
    lines = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="surrogatepass")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogatepass")
    task = json.loads(lines.readline())
    names = vars(module("__main__" if task["mode"] == "program" else "solution"))
    try:
        set_up(task, names)
    except Exception as error:
        replies.write(f"{type(error).__name__}: {error}\n")
        return
    replies.write("started\n")
    replies.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    if task["mode"] == "program":
        lines.close()
        replies.close()
        try:
            execute(compiled(task["source"]), names, task)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        return
    if task["mode"] == "compile":
        try:
            compiled(task["source"])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            replies.write('{"unparseable": true}\n')
        replies.close()
        return
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    if task["mode"] == "tests":
        sys.path.append("/packages")
        run_tests(task, lines, reply)
    elif task["mode"] == "compare":
        compare(task, lines, reply)
    else:
        answer_calls(task, names, lines, reply)


def module(name: str) -> types.ModuleType:
    """A module that programs run in and that is imported by its name: dataclasses and pickles look for it."""
    made = types.ModuleType(name)
    made.__file__ = f"{name.strip('_')}.py"
    sys.modules[name] = made
    return made


def set_up(task: dict[str, Any], names: dict[str, Any]) -> None:
    """The other user, the input, the names that the program may rely on, and in the end the limits."""
    if task["uid"]:
        os.setgroups([])
        os.setgid(task["uid"])
        os.setuid(task["uid"])
    sys.set_int_max_str_digits(0)  # programs print integers of any length; their limit of time is another
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # which `site` would define
    if task["mode"] == "program":
        become_input(task.pop("input"))  # before the limit on the size of files, which is not meant for it
    if task.get("prelude"):
        sys.path.append("/packages")
        import_prelude(names)
        cap_stacks(task["limits"]["RLIMIT_AS"] // 4)
    for name, value in task["limits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lower, lower))


def cap_stacks(most: int) -> None:
    """Contest programs ask for threads with a stack of 1 GB: what is beyond the memory would start no thread at all."""
    stack_size = threading.stack_size
    threading.stack_size = lambda size=0: stack_size(min(size, most))


def become_input(text: str) -> None:
    """Make ``text`` the standard input, as a file: programs may seek in it or read it by its descriptor."""
    with open("input", "w+", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)
        file.flush()
        os.lseek(file.fileno(), 0, 0)
        os.dup2(file.fileno(), 0)
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogatepass", closefd=False)


def import_prelude(names: dict[str, Any]) -> None:
    """Define what ``PRELUDE``'s modules export, a later one's where two export the same, and then the modules."""
    modules = PRELUDE.split()
    exec(
        "\n".join([f"from {module} import *" for module in modules] + [f"import {module}" for module in modules]), names
    )


def execute(code: Any, names: dict[str, Any], task: dict[str, Any]) -> None:
    """Run a program, as deep in calls as the benchmark's runner lets it. Compiling is not: that is depth in C."""
    if task.get("prelude"):
        sys.setrecursionlimit(50_000)
    exec(code, names)


def compiled(source: str, name: str = "solution") -> Any:
    """The code of a program; this file's own ``from __future__`` is none of its business."""
    return compile(source, name, "exec", dont_inherit=True)


def answer_calls(task: dict[str, Any], names: dict[str, Any], lines: Any, reply: Any) -> None:
    try:
        parts = [compiled(part) for part in whole(task)]
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
        names.clear()  # which may hold all the memory there is
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


def whole(task: dict[str, Any]) -> list[str]:
    """What is run, one after the other: a prompt with imports, and the program, or the body that goes on with it."""
    context, source = task.get("context", ""), task["source"]
    if not context:
        return [source]
    try:
        compiled(context)
        compiled(source)
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
            message = {}  # no answer at all: a test that waits for one of these errors must not get it
        kind = getattr(builtins, str(message.get("raised")), None)
        raise kind() if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError()

    names: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compiled(task["context"], "context"), names)
        names[task["entry"]] = candidate
        exec(compiled(task["source"], "tests"), names)
        names["check"](candidate)
    except BaseException as error:
        reply({"failed": type(error).__name__})
    else:
        reply({"passed": True})


def compare(task: dict[str, Any], lines: Any, reply: Any) -> None:
    """Make calls and compare what comes back: values that a program made are rebuilt here, within limits of their own.

    Rebuilding may take all the time there is (a set whose elements have one hash) or all memory.
    """
    try:
        for call in task["calls"]:
            reply({"call": call["call"]})
            message = json.loads(lines.readline())
            if "value" not in message:
                reply({"failed": message.get("raised")})
                return
            value = decode(message["value"])
            if not any(same(value, decode(expected)) for expected in call["expected"]):
                reply({"failed": "AssertionError"})
                return
    except Exception as error:
        reply({"failed": type(error).__name__})
    else:
        reply({"passed": True})


def same(value: Any, expected: Any) -> bool:
    """Equal plain values; a tuple may stand for a list, which JSON does not tell apart. Floats within ``TOLERANCE``."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[key], expected[key]) for key in expected)
    if isinstance(value, bool) != isinstance(expected, bool):
        return False
    if float in (type(value), type(expected)) and {type(value), type(expected)} <= {int, float}:
        return value == expected or (finite(value) and finite(expected) and close(value, expected))
    return bool(value == expected)


def finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def close(value: Any, expected: Any) -> bool:
    """Whether numbers of which one is a float differ by no more than the graders of these benchmarks let them.

    An integer is expected to that much, whatever its size; of what is no integer it is the share.
    """
    difference, wanted = abs(Decimal(value) - Decimal(expected)), abs(Decimal(expected))
    return difference <= TOLERANCE * (max(Decimal(1), wanted) if wanted % 1 else 1)


def encode(value: Any) -> Any:
    """Plain values as JSON; whatever is no plain value is an error, a class derived from one included."""
    kind = type(value)
    if kind is int and value.bit_length() > 13_000:  # more digits than others turn into a number
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
    """The inverse of :func:`encode`, for JSON from anybody: makes nothing but plain values."""
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
