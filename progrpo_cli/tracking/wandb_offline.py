"""Reading W&B's transaction logs, ``run-<id>.wandb``, where an offline run has its configuration, history and summary.

A log is a 7-byte file header, then blocks of 32 KiB (the first one counts the header) in LevelDB's log format: each
piece has the CRC-32 of type and data (u32), length (u16), type (u8; 1 whole record, 2 first, 3 middle, 4 last piece),
little-endian; fewer than 7 bytes at the end of a block are padding. A record is a protobuf ``Record`` of
``wandb_internal_pb2``. Python's own reader of it left wandb with 0.30.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from progrpo_cli.tracking.tracked_run import STEPS_BELOW, TrackedRun
from progrpo_cli.untrusted import METRICS, read_bytes

log = logging.getLogger("progrpo")

FILE_HEADER = b":W&B\xe1\xbe\x00"  # name, magic 0xBEE1, version 0
BLOCK = 32 * 1024
_PIECE = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_wandb_dir(directory: Path) -> list[TrackedRun]:
    """The runs of a ``wandb`` directory, which holds ``run-*`` and ``offline-run-*`` directories; oldest first.

    A run that was resumed has several of them: they are merged in the order of their starts; where two say something
    about the same configuration key, summary key or training step, the later one wins. A damaged or cut file costs the
    records that are hit, and ``damaged_records`` counts them. What is no W&B log at all is left out, with a warning.
    """
    return merge(sorted([*directory.glob("run-*/run-*.wandb"), *directory.glob("offline-run-*/run-*.wandb")]))


def merge(logs: Iterable[Path], warn: Callable[[str], None] = log.warning) -> list[TrackedRun]:
    """The runs in these ``.wandb`` files, those with the same run id merged (see :func:`read_wandb_dir`).

    Args:
        logs: the files, in any order.
        warn: gets one line for each file that is left out.
    """
    by_id: dict[str, list[_Fragment]] = {}
    for path in logs:
        try:
            fragment = _read_fragment(path)
        except (OSError, ValueError) as error:
            warn(f"{path} skipped: {error}")
            continue
        by_id.setdefault(fragment.id, []).append(fragment)
    return sorted((_merged(fragments) for fragments in by_id.values()), key=lambda run: (run.started, run.id))


@dataclass
class _Fragment:
    """One ``.wandb`` file."""

    path: Path
    id: str
    started: float
    name: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    damaged: int = 0


def _merged(fragments: list[_Fragment]) -> TrackedRun:
    fragments.sort(key=lambda fragment: (fragment.started, fragment.path.parent.name))
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    steps: dict[int, dict[str, Any]] = {}
    damaged = sum(fragment.damaged for fragment in fragments)
    for fragment in fragments:
        config.update(fragment.config)
        summary.update(fragment.summary)
        for row in fragment.history:
            step = row.get("step")  # W&B's own _step restarts with each fragment
            if isinstance(step, bool) or not isinstance(step, int | float):
                continue  # the row of an evaluation
            if abs(step) < STEPS_BELOW:
                steps.setdefault(int(step), {}).update(row)
            else:
                damaged += 1
    last = fragments[-1]
    return TrackedRun(
        id=last.id,
        name=next((fragment.name for fragment in reversed(fragments) if fragment.name), last.id),
        group=next((fragment.group for fragment in reversed(fragments) if fragment.group), None),
        tags=next((fragment.tags for fragment in reversed(fragments) if fragment.tags), ()),
        config=config,
        summary=summary,
        history=[steps[step] for step in sorted(steps)],
        status={None: "unknown", 0: "finished"}.get(last.exit_code, "failed"),
        started=fragments[0].started,
        damaged_records=damaged,
        path=str(last.path.parent.parent),
    )


def _read_fragment(path: Path) -> _Fragment:
    """Raises ValueError where the file does not begin as a W&B log."""
    data = read_bytes(path, METRICS)
    if not data.startswith(FILE_HEADER[:4]):
        raise ValueError("not a W&B transaction log")
    if data[: len(FILE_HEADER)] != FILE_HEADER[: len(data)]:
        raise ValueError(f"a W&B transaction log of an unknown version ({data[4:7].hex()})")
    fragment = _Fragment(path, id=path.stem.removeprefix("run-"), started=_time_in_name(path))
    previous = 0
    lost = 0  # damage since the previous readable record
    for payload in _payloads(data):
        record = None if payload is None else _parse(payload)
        if record is None or not _take(record, fragment):
            lost += 1
            continue
        # Records are numbered without gaps: the gap says exactly how many a damaged stretch held.
        missing = record.num - previous - 1
        fragment.damaged += max(lost, missing) if lost else 0
        previous, lost = record.num, 0
    fragment.damaged += lost
    return fragment


def _time_in_name(path: Path) -> float:
    """``offline-run-20261124_153903-<id>``, local time: only for a log whose run record was lost."""
    stamp = path.parent.name.removeprefix("offline-").removeprefix("run-").split("-")[0]
    try:
        return datetime.strptime(stamp, "%Y%m%d_%H%M%S").timestamp()
    except ValueError:
        return path.stat().st_mtime


def _payloads(data: bytes) -> Iterator[bytes | None]:
    """The records' bytes in order; None for each damaged stretch."""
    assembled: list[bytes] | None = None
    damaged = False  # what is left of a record whose piece was lost has been counted with that piece
    for kind, piece in _pieces(data):
        if kind is None:
            assembled, damaged = None, True
            yield None
        elif kind in (_WHOLE, _FIRST):
            if assembled is not None:
                yield None
            damaged = False
            assembled = [piece] if kind == _FIRST else None
            if kind == _WHOLE:
                yield piece
        elif assembled is not None:
            assembled.append(piece)
            if kind == _LAST:
                yield b"".join(assembled)
                assembled = None
        elif not damaged:
            damaged = True
            yield None
    if assembled is not None:
        yield None


def _pieces(data: bytes) -> Iterator[tuple[int | None, bytes]]:
    """(type, data) of each piece; (None, b"") for each stretch that is damaged or cut off."""
    position = len(FILE_HEADER)
    while position < len(data):
        block_end = min(len(data), (position // BLOCK + 1) * BLOCK)
        if block_end - position < _PIECE.size:
            if block_end == len(data) and block_end % BLOCK:  # not a block's padding: the file ends in a piece's header
                yield None, b""
            position = block_end
            continue
        end = _valid_piece(data, position, block_end)
        if end is not None:
            yield data[position + 6], data[position + _PIECE.size : end]
            position = end
            continue
        yield None, b""
        position = _next_valid(data, position, block_end)


def _valid_piece(data: bytes, position: int, block_end: int) -> int | None:
    """Where the piece at ``position`` ends, or None if there is no intact one."""
    if block_end - position < _PIECE.size:
        return None
    checksum, length, kind = _PIECE.unpack_from(data, position)
    end: int = position + _PIECE.size + length
    if not _WHOLE <= kind <= _LAST or end > block_end:
        return None
    return end if zlib.crc32(memoryview(data)[position + 6 : end]) == checksum else None


def _next_valid(data: bytes, position: int, block_end: int) -> int:
    """Where reading goes on after a damaged piece: at the next intact one of the block, else at the next block."""
    # Usually only the data are damaged, and the length still leads to the next piece.
    claimed: int = position + _PIECE.size + _PIECE.unpack_from(data, position)[1]
    if claimed == block_end or (claimed < block_end and _valid_piece(data, claimed, block_end) is not None):
        return claimed
    for candidate in range(position + 1, block_end - _PIECE.size + 1):
        if _valid_piece(data, candidate, block_end) is not None:
            return candidate
    return block_end


def _parse(payload: bytes) -> Any:
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    record = wandb_internal_pb2.Record()
    try:
        record.ParseFromString(payload)
    except DecodeError:
        return None
    return record


def _take(record: Any, fragment: _Fragment) -> bool:
    """Put what a record says into the fragment; False if it holds what is not JSON."""
    kind = record.WhichOneof("record_type")
    try:
        if kind == "history":
            row: dict[str, Any] = {}
            _assign(row, record.history.item)
            fragment.history.append(row)
        elif kind == "summary":
            _change(fragment.summary, record.summary)
        elif kind == "config":
            _change(fragment.config, record.config)
        elif kind == "run":
            _take_run(record.run, fragment)
        elif kind == "exit":
            fragment.exit_code = record.exit.exit_code
    except (ValueError, RecursionError):
        return False
    return True


def _take_run(run: Any, fragment: _Fragment) -> None:
    _change(fragment.config, run.config)
    fragment.config.pop("_wandb", None)
    fragment.id = run.run_id or fragment.id
    fragment.name, fragment.group, fragment.tags = run.display_name, run.run_group, tuple(run.tags)
    if run.start_time.seconds:
        fragment.started = run.start_time.seconds + run.start_time.nanos / 1e9


def _change(target: dict[str, Any], change: Any) -> None:
    _assign(target, change.update)
    for item in change.remove:
        *parents, last = _keys(item)
        section: Any = target
        for key in parents:
            section = section.get(key, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section.pop(last, None)


def _assign(target: dict[str, Any], items: Sequence[Any]) -> None:
    for item, value in zip(items, _values([item.value_json for item in items]), strict=True):
        keys = item.nested_key
        if len(keys) == 1:
            target[keys[0]] = value
            continue
        *parents, last = _keys(item)
        section = target
        for key in parents:
            if not isinstance(section.get(key), dict):
                section[key] = {}
            section = section[key]
        section[last] = value


def _values(texts: list[str]) -> list[Any]:
    """Each text's value; json takes the bare NaN and Infinity that W&B writes."""
    try:  # one call for all: a log is read in half the time
        values: list[Any] = json.loads(f"[{','.join(texts)}]")
    except ValueError:
        values = []
    return values if len(values) == len(texts) else [json.loads(text) for text in texts]


def _keys(item: Any) -> list[str]:
    return list(item.nested_key) or [item.key]
