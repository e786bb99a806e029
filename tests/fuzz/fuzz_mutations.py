"""Damaged and hostile versions of a file: of its bytes, and of the JSON or YAML in it."""

import json
import random
from collections.abc import Callable
from typing import Any

import yaml

FRAGMENTS = [
    b"\x00", b"\xff\xfe", b"\x1b[2J", b"\r\n", b"\n\n", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-1",
    b"[" * 3000, b"{" * 3000,
    b'{"a":' * 2000, b'"', b"'", b"\\u0000", b"\\ud800", "\u202e\u2028".encode(),
    b"!!python/object/apply:os.system [id]", b"${oc.env:HOME}",
    b"&a [*a]", b"<<: *a", b"../../../etc/passwd", b"/dev/zero", b"=cmd|' /C calc'!A0", b"[red]bold[/]", b"%s%n",
    b"\\begin{x}",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "",
    " ", "a" * 10_000,
    "nan", "1e-6", "\x1b[31m", "\x00", "\ud800", "../..", "/etc/passwd", "[red]", "=1+1", "${oc.env:HOME}",
    "postgresql://nowhere.invalid/x",
    [], [[]], {}, {"": None}, [None], [1, "a", {}], {"a": {"b": {"c": []}}}, list(range(2000)),
]  # fmt: skip


def mutated(content: bytes, name: str, rng: random.Random) -> bytes:
    """Return a damaged version of a file's content.

    Args:
        content: the content of a valid file.
        name: the file's name; its ending tells the format.
        rng: the random numbers that choose the damage.
    """
    structured: Callable[[bytes, random.Random], bytes] | None = None
    if name.endswith((".yaml", ".yml")):
        structured = _yaml
    elif name.endswith(".json"):
        structured = _json
    elif name.endswith((".jsonl", ".journal")):
        structured = _json_lines
    change = structured if structured and rng.random() < 0.7 else _bytes
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        try:
            content = change(content, rng)
        except (ValueError, yaml.YAMLError, RecursionError, OverflowError):  # an earlier change has made it unreadable
            content = _bytes(content, rng)
    return content


def _bytes(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice((1, 1, 4, 64, 4096)))
    action = rng.randrange(6)
    if action == 0:
        return content[:start]
    if action == 1:
        return content[:start] + content[end:]
    if action == 2:
        return content[:end] + content[start:end] * rng.choice((1, 3, 50)) + content[end:]
    if action == 3:
        return content[:start] + rng.randbytes(end - start) + content[end:]
    if action == 4 and content:
        place = min(start, len(content) - 1)
        return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
    return content[:start] + rng.choice(FRAGMENTS) + content[start:]


def _json(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(_changed(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def _yaml(content: bytes, rng: random.Random) -> bytes:
    changed = _changed(yaml.safe_load(content), rng)
    return yaml.safe_dump(changed, allow_unicode=True).encode("utf-8", "surrogatepass")


def _json_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if not lines:
        return _bytes(content, rng)
    place = rng.randrange(len(lines))
    action = rng.randrange(5)
    if action == 0:
        return b"".join(lines[:place] + lines[place + 1 :])
    if action == 1:
        return b"".join(lines[: place + 1] + lines[place:])
    if action == 2:
        other = rng.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
        return b"".join(lines)
    lines[place] = _json(lines[place], rng) + b"\n"
    return b"".join(lines)


def _changed(value: Any, rng: random.Random) -> Any:
    """Return the document with one value replaced, removed, renamed or repeated."""
    places: list[tuple[Any, Any]] = []
    _collect(value, places)
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    action = rng.randrange(6)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[rng.choice(["", "x", "\x1b[2J", str(key) * 200])] = holder.pop(key)
    elif action == 2 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 10, 1000)))
    elif action == 3:
        other, place = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[place], default=str))
    else:
        holder[key] = rng.choice(VALUES)
    return value


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        places.append((value, key))
        _collect(value[key], places)
