"""Read the tests of LiveCodeBench and DeepCoder, whose rows store them in several formats."""

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

MAX_BYTES = 256 << 20
"""Bytes of a problem's hidden tests when unpacked. LiveCodeBench's longest have 50 MB."""


class _TextUnpickler(pickle.Unpickler):
    """Unpickles text, which is how LiveCodeBench packs its hidden tests, and refuses to import anything."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def unpack(value: Any) -> Any:
    """Parse text that is JSON, or LiveCodeBench's base64 of zlib of a pickled JSON text. Return other values unchanged.

    Raises:
        ValueError: the text is neither.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip()[:1] in ("[", "{"):
        return _loads(value)
    try:
        return _loads(_TextUnpickler(io.BytesIO(_decompress(base64.b64decode(value)))).load())
    except Exception as error:  # an invalid pickle may raise anything
        raise ValueError(f"the tests cannot be unpacked: {error}") from error


def _decompress(packed: bytes) -> bytes:
    """Decompress up to a bound: a megabyte may contain a gigabyte and a half."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
    return data


def read_tests(place: str, *values: Any, entry: str | None) -> Tests:
    """Return all tests of a row: ``{inputs, outputs, fn_name?}`` or a list of ``{input, output, ...}``, packed or not.

    Args:
        place: the place of the row, for errors.
        values: the values of the row's fields with tests.
        entry: the function under test, if the row names it outside of the tests.

    Raises:
        RequestError: the tests have another format, or there are none.
    """
    try:
        cases: list[dict[str, Any]] = []
        for value in map(unpack, values):
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
        raise RequestError(f"{place}: tests in an unknown format ({type(error).__name__}: {error})") from error


def _entry(case: dict[str, Any]) -> str | None:
    name = case.get("fn_name") or (case.get("metadata") or {}).get("func_name")
    return str(name) if name else None


def _text(value: Any) -> str:
    """Return the text of an input or output. A list contains lines, or lists of lines."""
    return "\n".join(map(_text, value)) if isinstance(value, list) else str(value)


def _call(case: dict[str, Any]) -> Call:
    """Convert a test case to a call.

    LiveCodeBench stores one argument in JSON per line, and the value in JSON. Other datasets store lists; some wrap the
    expected value in a list and some do not. For a list of one element, both the list and the element are right, as in
    the graders of APPS and TACO.
    """
    given, expected = case["input"], case["output"]
    if isinstance(given, str):
        return Call([_loads(line) for line in given.split("\n") if line.strip()], _loads(expected))
    given, expected = [_with_integer_keys(argument) for argument in given], _with_integer_keys(expected)
    return Call(given, expected, tuple(expected) if isinstance(expected, list) and len(expected) == 1 else ())


def _loads(text: str) -> Any:
    """Parse JSON with integers of any length; ``int`` alone refuses more than 4,300 digits."""
    return json.loads(text, parse_int=lambda digits: int(Decimal(digits)) if len(digits) > 4000 else int(digits))


def _with_integer_keys(value: Any) -> Any:
    """Convert the keys of a dictionary to integers if all of them look like integers, as APPS's grader does."""
    if isinstance(value, dict) and value and all(re.fullmatch(r"-?\d{1,18}", str(key)) for key in value):
        return {int(key): part for key, part in value.items()}
    return value
