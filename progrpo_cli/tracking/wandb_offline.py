"""Read W&B's transaction logs, ``run-<id>.wandb``, which hold an offline run's configuration, history and summary.

A log is a 7-byte file header and blocks of 32 KiB (the first one includes the header) in LevelDB's log format. Each
piece has the CRC-32 of type and data (u32), the length (u16) and the type (u8; 1 whole record, 2 first, 3 middle, 4
last piece), little-endian. Fewer than 7 bytes at the end of a block are padding. A record is a protobuf ``Record`` of
``wandb_internal_pb2``. Since version 0.30, wandb has no Python reader of this format.
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
    """Read the runs of a ``wandb`` directory, which contains ``run-*`` and ``offline-run-*``; oldest first.

    A resumed run has several logs. They are merged in order of their start times; for the same configuration key,
    summary key or training step the later one wins. Damaged records are skipped, and ``damaged_records`` counts them.
    Files that are not W&B logs are left out with a warning.
    """
    return merge(sorted([*directory.glob("run-*/run-*.wandb"), *directory.glob("offline-run-*/run-*.wandb")]))


def merge(logs: Iterable[Path], warn: Callable[[str], None] = log.warning) -> list[TrackedRun]:
    """Read ``.wandb`` files, and merge those with the same run id; see :func:`read_wandb_dir`.

    Args:
        logs: the files, in any order.
        warn: called with a line for each file that is left out.
    """
    by_id: dict[str, list[_Fragment]] = {}
    for path in logs:
        try:
            fragment = _read_fragment(path)
        except (OSError, ValueError) as error:
            warn(f"{path} skipped: {error}")
            continue
        by_id.setdefault(fragment.id, []).append(fragment)
    return sorted((_merge(fragments) for fragments in by_id.values()), key=lambda run: (run.started, run.id))


@dataclass
class _Fragment:
    """The content of one ``.wandb`` file."""

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


def _merge(fragments: list[_Fragment]) -> TrackedRun:
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
                continue  # this row belongs to an evaluation
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
    """Read a log; raise ValueError if the file does not start with a W&B header."""
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
        if record is None or not _add_record(record, fragment):
            lost += 1
            continue
        # Records are numbered consecutively, so a gap tells how many records a damaged range held.
        missing = record.num - previous - 1
        fragment.damaged += max(lost, missing) if lost else 0
        previous, lost = record.num, 0
    fragment.damaged += lost
    return fragment


def _time_in_name(path: Path) -> float:
    """Return the start time in a name such as ``offline-run-20261124_153903-<id>``, which is local time.

    It is used only for a log whose run record was lost.
    """
    stamp = path.parent.name.removeprefix("offline-").removeprefix("run-").split("-")[0]
    try:
        return datetime.strptime(stamp, "%Y%m%d_%H%M%S").timestamp()
    except ValueError:
        return path.stat().st_mtime


def _payloads(data: bytes) -> Iterator[bytes | None]:
    """Yield the bytes of each record in order; None for each damaged range."""
    assembled: list[bytes] | None = None
    damaged = False  # the remaining pieces of a damaged record are not counted again
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
    """Yield (type, data) of each piece; (None, b"") for each range that is damaged or cut off."""
    position = len(FILE_HEADER)
    while position < len(data):
        block_end = min(len(data), (position // BLOCK + 1) * BLOCK)
        if block_end - position < _PIECE.size:
            if block_end == len(data) and block_end % BLOCK:  # not padding: the file ends within the header of a piece
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
    """Return the end of the piece at ``position``; None if there is no intact piece."""
    if block_end - position < _PIECE.size:
        return None
    checksum, length, kind = _PIECE.unpack_from(data, position)
    end: int = position + _PIECE.size + length
    if not _WHOLE <= kind <= _LAST or end > block_end:
        return None
    return end if zlib.crc32(memoryview(data)[position + 6 : end]) == checksum else None


def _next_valid(data: bytes, position: int, block_end: int) -> int:
    """Return where to continue after a damaged piece: at the next intact piece of the block, or at the next block."""
    # Usually only the data are damaged, and the length is still valid.
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


def _add_record(record: Any, fragment: _Fragment) -> bool:
    """Add the content of a record to the fragment; return False if a value is not JSON."""
    kind = record.WhichOneof("record_type")
    try:
        if kind == "history":
            row: dict[str, Any] = {}
            _assign(row, record.history.item)
            fragment.history.append(row)
        elif kind == "summary":
            _apply(fragment.summary, record.summary)
        elif kind == "config":
            _apply(fragment.config, record.config)
        elif kind == "run":
            _add_run(record.run, fragment)
        elif kind == "exit":
            fragment.exit_code = record.exit.exit_code
    except (ValueError, RecursionError):
        return False
    return True


def _add_run(run: Any, fragment: _Fragment) -> None:
    _apply(fragment.config, run.config)
    fragment.config.pop("_wandb", None)
    fragment.id = run.run_id or fragment.id
    fragment.name, fragment.group, fragment.tags = run.display_name, run.run_group, tuple(run.tags)
    if run.start_time.seconds:
        fragment.started = run.start_time.seconds + run.start_time.nanos / 1e9


def _apply(target: dict[str, Any], change: Any) -> None:
    _assign(target, change.update)
    for item in change.remove:
        *parents, last = _keys(item)
        section: Any = target
        for key in parents:
            section = section.get(key, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section.pop(last, None)


def _assign(target: dict[str, Any], items: Sequence[Any]) -> None:
    for item, value in zip(items, _parse_values([item.value_json for item in items]), strict=True):
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


def _parse_values(texts: list[str]) -> list[Any]:
    """Parse each text as JSON; Python's parser accepts the bare NaN and Infinity that W&B writes."""
    try:  # parsing all texts in one call halves the time to read a log
        values: list[Any] = json.loads(f"[{','.join(texts)}]")
    except ValueError:
        values = []
    return values if len(values) == len(texts) else [json.loads(text) for text in texts]


def _keys(item: Any) -> list[str]:
    return list(item.nested_key) or [item.key]
