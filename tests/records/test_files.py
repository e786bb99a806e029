"""Files are replaced whole, whoever else writes them, and what dead processes left does not stay."""

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


def test_writers_with_the_same_process_id_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that share a directory: each one's process is number 1."""
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


def test_what_a_dead_process_left_is_taken_away_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    dead, earlier, living, other = (
        tmp_path / f".{name}.partial"
        for name in ("trials.csv.1-0123abcd", "trials.csv.4711", "trials.csv.2-0123abcd", "other.csv.1-0123abcd")
    )
    for left in (dead, earlier, living, other):
        left.write_text("half of")
    for left in (dead, earlier, other):
        os.utime(left, (time.time() - 7200, time.time() - 7200))
    files.write_text(path, "whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(each.name for each in (path, living, other))
    assert path.read_text() == "whole"


@pytest.mark.parametrize(
    "value",
    ["plain", 'quoted " \\ \n \x00 \x7f', "\u2028\x85", "\ud800", "😀", "null", ":null", None, True, 7, 10**30, 0.1,
     -1e-7, 5e-324, 1e22, math.inf, -math.inf, [None], [math.nan]],
    ids=repr,
)  # fmt: skip
def test_a_line_of_json_says_what_json_says_in_one_line_of_ascii(value: object, tmp_path: Path) -> None:
    text = files.json_lines([{"value": value, "after": 1}, {"value": value}])
    assert text.isascii()
    assert len(text.splitlines()) == text.count("\n") == 2
    (tmp_path / "lines.jsonl").write_text(text)
    read = files.read_lines(tmp_path / "lines.jsonl")
    assert repr(read) == repr([{"value": value, "after": 1}, {"value": value}])


def test_a_nan_stays_one() -> None:
    (line,) = files.json_lines([{"entropy": math.nan}]).splitlines()
    assert json.loads(line)["entropy"] != json.loads(line)["entropy"]


def test_a_lock_is_held_by_one_and_gone_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not files.is_locked(path)
    assert not path.exists()  # to ask makes no file
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
        with files.locked(path) as file:  # the kernel has let go
            file.write("ours")
            file.flush()
            assert path.read_text() == "ours"
    assert not files.is_locked(path)
    with files.locked(path, seconds=0.0):  # what it holds stays
        assert path.read_text() == "ours"


def test_the_kernels_locks_are_taken_in_one_place() -> None:
    package = Path(files.__file__).parents[1]
    users = [path for path in package.rglob("*.py") if re.search(r"^\s*import fcntl", path.read_text(), re.MULTILINE)]
    assert users == [Path(files.__file__)]
