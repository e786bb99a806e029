"""Atomic writing, JSON lines and locks of files."""

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from progrpo_cli.records import files


def test_writers_with_the_same_process_id_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that share a directory may all have process id 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "trials.csv"
    texts = {letter * 100_000 for letter in "abc"}
    failures: list[BaseException] = []
    path.write_text("a" * 100_000)

    def write(text: str) -> None:
        try:
            for _ in range(30):
                files.write_text(path, text)
        except OSError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in texts
    assert failures == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["trials.csv"]


def test_only_old_partial_files_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    dead, earlier, living, other = (
        tmp_path / f".{name}.partial"
        for name in ("trials.csv.1-0123abcd", "trials.csv.4711", "trials.csv.2-0123abcd", "other.csv.1-0123abcd")
    )
    for partial in (dead, earlier, living, other):
        partial.write_text("half of")
    for partial in (dead, earlier, other):
        os.utime(partial, (time.time() - 7200, time.time() - 7200))
    files.write_text(path, "whole")
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, living.name, other.name}
    assert path.read_text() == "whole"


@pytest.mark.parametrize(
    "value",
    ["plain", 'quoted " \\ \n \x00 \x7f', "\u2028\x85", "\ud800", "😀", "null", ":null", None, True, 7, 10**30, 0.1,
     -1e-7, 5e-324, 1e22, math.inf, -math.inf, [None], [math.nan]],
    ids=repr,
)  # fmt: skip
def test_a_json_line_is_ascii_and_is_read_back_unchanged(value: object, tmp_path: Path) -> None:
    text = files.json_lines([{"value": value, "after": 1}, {"value": value}])
    assert text.isascii()
    assert len(text.splitlines()) == text.count("\n") == 2
    (tmp_path / "lines.jsonl").write_text(text)
    read = files.read_lines(tmp_path / "lines.jsonl")
    assert repr(read) == repr([{"value": value, "after": 1}, {"value": value}])


def test_a_nan_is_written_as_nan() -> None:
    (line,) = files.json_lines([{"entropy": math.nan}]).splitlines()
    assert json.loads(line)["entropy"] != json.loads(line)["entropy"]


def test_a_lock_is_exclusive_and_released_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not files.is_locked(path)
    assert not path.exists()
    code = (
        f"import time, pathlib; from progrpo_cli.records import files; held = files.locked(pathlib.Path({str(path)!r}))"
    )
    code += "; file = held.__enter__(); print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert files.is_locked(path)
        with pytest.raises(BlockingIOError), files.locked(path, seconds=0.05):
            pass
        holder.kill()
        with files.locked(path) as file:  # the kernel has released the lock
            file.write("ours")
            file.flush()
            assert path.read_text() == "ours"
    assert not files.is_locked(path)
    with files.locked(path, seconds=0.0):  # taking the lock keeps the file's content
        assert path.read_text() == "ours"


def test_only_one_module_uses_flock() -> None:
    package = Path(files.__file__).parents[1]
    users = [path for path in package.rglob("*.py") if re.search(r"^\s*import fcntl", path.read_text(), re.MULTILINE)]
    assert users == [Path(files.__file__)]
