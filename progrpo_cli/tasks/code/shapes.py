"""The tests of LiveCodeBench and DeepCoder, in the several shapes that their rows hold them in."""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
import zlib
from decimal import Decimal
from typing import Any

from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.code.checking import Call, Calls, Outputs, Tests

LARGEST = 256 << 20
"""Bytes of a problem's hidden tests: LiveCodeBench's longest have 50 MB."""


class _TextOnly(pickle.Unpickler):
    """A pickle of text (LiveCodeBench packs its hidden tests so) and of nothing that has to be looked up."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def unpacked(value: Any) -> Any:
    """JSON in a text, or in LiveCodeBench's base64 of zlib of pickle of text; anything else as it is.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip()[:1] in ("[", "{"):
        return _loads(value)
    try:
        return _loads(_TextOnly(io.BytesIO(_inflated(base64.b64decode(value)))).load())
    except Exception as error:  # a pickle that lies about itself raises anything
        raise ValueError(f"tests that can't be unpacked: {error}") from error


def _inflated(packed: bytes) -> bytes:
    """Decompressed, up to a bound: a megabyte may stand for a gigabyte and a half."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, LARGEST)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {LARGEST >> 20} MiB")
    return data


def read_tests(place: str, *values: Any, entry: str | None) -> Tests:
    """All tests of a row: ``{inputs, outputs, fn_name?}`` or a list of ``{input, output, ...}``, packed or not.

    Args:
        place: where the row stands, for errors.
        values: the row's fields with tests.
        entry: the function under test, where the row names it outside of the tests.

    Raises:
        RequestError: the tests have another form, or there are none.
    """
    try:
        cases: list[dict[str, Any]] = []
        for value in map(unpacked, values):
            if isinstance(value, dict):
                shared = {"fn_name": value.get("fn_name")}
                pairs = zip(value["inputs"], value["outputs"], strict=True)
                cases += [{"input": given, "output": expected, **shared} for given, expected in pairs]
            else:
                cases += value
        entry = next((name for name in map(_entry, cases) if name), entry)
        if not cases:
            raise ValueError("no tests")
        if entry is None:
            return Outputs(tuple((_text(case["input"]), _text(case["output"])) for case in cases))
        return Calls(entry, tuple(_call(case) for case in cases))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{place}: tests of an unknown form ({type(error).__name__}: {error})") from error


def _entry(case: dict[str, Any]) -> str | None:
    name = case.get("fn_name") or (case.get("metadata") or {}).get("func_name")
    return str(name) if name else None


def _text(value: Any) -> str:
    """What a program reads or prints; a list holds lines, or lists of them."""
    return "\n".join(map(_text, value)) if isinstance(value, list) else str(value)


def _call(case: dict[str, Any]) -> Call:
    """LiveCodeBench: an argument in JSON a line and the value in JSON; else lists.

    There the value may stand alone in a list or not, and the data do both: of a list of one, the list and what is in it
    are right, as the graders of APPS and TACO have it.
    """
    given, expected = case["input"], case["output"]
    if isinstance(given, str):
        return Call([_loads(line) for line in given.split("\n") if line.strip()], _loads(expected))
    given, expected = [_with_integer_keys(argument) for argument in given], _with_integer_keys(expected)
    return Call(given, expected, tuple(expected) if isinstance(expected, list) and len(expected) == 1 else ())


def _loads(text: str) -> Any:
    """JSON with integers of any length, which `int` alone does not take."""
    return json.loads(text, parse_int=lambda digits: int(Decimal(digits)) if len(digits) > 4000 else int(digits))


def _with_integer_keys(value: Any) -> Any:
    """JSON has texts for keys: where all of them are integers, APPS's grader makes them integers again."""
    if isinstance(value, dict) and value and all(re.fullmatch(r"-?\d{1,18}", str(key)) for key in value):
        return {int(key): part for key, part in value.items()}
    return value
