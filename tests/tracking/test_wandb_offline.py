"""Reading logs that the real wandb has written."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from progrpo_cli.tracking import wandb_offline
from progrpo_cli.tracking.wandb_offline import BLOCK, merge, read_wandb_dir


def _settings():
    import wandb

    return wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)


def _log_run(directory: Path, rows, *, summary=None, **init):
    import wandb

    run = wandb.init(project="progrpo", dir=directory, mode="offline", settings=_settings(), **init)
    for row in rows:
        run.log(row)
    run.summary.update(summary or {})
    run.finish()
    deadline = time.monotonic() + 20  # W&B's service may write the end of the file after finish() has returned
    while merge([Path(run.settings.sync_file)])[0].status == "unknown":
        assert time.monotonic() < deadline, "W&B did not end its log"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Six steps, a second process that starts at step 4 with the same id, and an evaluation."""
    directory = tmp_path_factory.mktemp("resumed")
    config = {"method": {"name": "progrpo", "arm": {"alpha": 0.3}}, "seed": 0, "nothing": None}
    named = {"id": "abc123", "name": "lab-progrpo-s0", "group": "arm_alpha", "tags": ["progrpo", "lab"]}
    rows = [{"step": step, "reward": step / 10, "arm/shift_mean": math.nan} for step in range(6)]
    _log_run(directory, rows, config=config, **named)
    time.sleep(1.1)  # the names of the directories have a resolution of one second
    _log_run(directory, [{"step": s, "reward": s * 10, "big": math.inf} for s in range(4, 8)], config=config, **named)
    time.sleep(1.1)
    scores = {"scores/countdown-aa": '{"n": 4}', "note": "später, „Text“"}
    _log_run(directory, [{"eval/pass@1": 0.5}], config={**config, "seed": 1}, summary=scores, **named)
    return directory / "wandb"


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    """A log of several blocks, with records that are longer than a block, and its 400 rows."""
    directory = tmp_path_factory.mktemp("long")
    rows = [
        {"step": step, "reward": step / 7, "text": "x" * (70_000 if step in (100, 300) else 50)} for step in range(400)
    ]
    _log_run(directory, rows, id="long1", config={"seed": 3})
    (path,) = directory.glob("wandb/offline-run-*/run-long1.wandb")
    return path, rows


def _copy(original: Path, directory: Path, data: bytes) -> Path:
    copy = directory / "wandb" / original.parent.name / original.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(data)
    return directory / "wandb"


def test_a_resumed_run_is_one_run_and_later_fragments_win(resumed):
    (run,) = read_wandb_dir(resumed)
    assert (run.id, run.name, run.group, run.tags) == ("abc123", "lab-progrpo-s0", "arm_alpha", ("progrpo", "lab"))
    assert [row["step"] for row in run.history] == list(range(8))
    assert [row["reward"] for row in run.history] == [0, 0.1, 0.2, 0.3, 40, 50, 60, 70]
    assert run.config == {"method": {"name": "progrpo", "arm": {"alpha": 0.3}}, "seed": 1, "nothing": None}
    assert run.summary["scores/countdown-aa"] == '{"n": 4}'
    assert run.summary["note"] == "später, „Text“"
    assert run.summary["eval/pass@1"] == 0.5
    assert (run.status, run.damaged_records, run.path) == ("finished", 0, str(resumed))


def test_values_that_are_not_finite_are_read(resumed):
    (run,) = read_wandb_dir(resumed)
    assert math.isnan(run.history[0]["arm/shift_mean"])
    assert run.history[6]["big"] == math.inf


def test_fragments_are_merged_in_order_of_start_time(resumed):
    logs = sorted(resumed.glob("*/*.wandb"), reverse=True)
    assert merge(logs) == read_wandb_dir(resumed)


def test_records_longer_than_a_block_are_read(long_log):
    path, rows = long_log
    assert path.stat().st_size > 4 * BLOCK
    (run,) = read_wandb_dir(path.parent.parent)
    assert run.damaged_records == 0
    assert [(row["step"], row["text"]) for row in run.history] == [(row["step"], row["text"]) for row in rows]
    assert [row["reward"] for row in run.history] == pytest.approx([row["reward"] for row in rows])


@pytest.mark.parametrize("cut", [1, 3, 1000, 40_000])
def test_a_cut_file_loses_only_the_records_at_its_end(long_log, tmp_path, cut):
    path, rows = long_log
    data = path.read_bytes()
    (run,) = read_wandb_dir(_copy(path, tmp_path, data[:-cut]))
    assert run.damaged_records == 1
    assert run.status == "unknown"
    steps = [row["step"] for row in run.history]
    assert steps == list(range(len(steps)))
    assert len(steps) >= len(rows) - cut / 50
    assert run.config == {"seed": 3}


def _position_of(data: bytes, step: int) -> int:
    """Return a position within the history record of ``step``, in its ``reward``.

    The summary record before it contains the same text.
    """
    text = str(step / 7).encode()[:10]
    return data.index(text, data.index(text) + 1)


def test_one_flipped_byte_in_the_data_costs_one_record(long_log, tmp_path):
    path, _ = long_log
    data = bytearray(path.read_bytes())
    data[_position_of(data, 204)] ^= 0x40
    (run,) = read_wandb_dir(_copy(path, tmp_path, bytes(data)))
    assert run.damaged_records == 1
    assert [step for step in range(400) if step not in {row["step"] for row in run.history}] == [204]
    assert run.status == "finished"


def test_two_adjacent_damaged_records_are_counted_as_two(long_log, tmp_path):
    path, _ = long_log
    data = bytearray(path.read_bytes())
    text = str(204 / 7).encode()[:10]
    first = data.index(text)
    for position in (first, data.index(text, first + 1)):  # the summary record of the step, and its history record
        data[position] ^= 0x40
    (run,) = read_wandb_dir(_copy(path, tmp_path, bytes(data)))
    assert run.damaged_records == 2
    assert len(run.history) == 399


def _headers(data: bytes) -> list[int]:
    """Return the positions of all pieces, computed independently of the reader."""
    positions, position = [], 7
    while position < len(data):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        positions.append(position)
        position += 7 + int.from_bytes(data[position + 4 : position + 6], "little")
    return positions


@pytest.mark.parametrize("length", [0, 1, 5000, 0xFFFF])
def test_a_hostile_length_costs_one_record(long_log, tmp_path, length):
    path, _ = long_log
    data = bytearray(path.read_bytes())
    header = max(p for p in _headers(data) if p < _position_of(data, 204))
    data[header + 4 : header + 6] = length.to_bytes(2, "little")
    (run,) = read_wandb_dir(_copy(path, tmp_path, bytes(data)))
    assert run.damaged_records == 1
    assert len(run.history) == 399
    assert run.status == "finished"


def test_a_lost_piece_of_a_long_record_costs_that_record(long_log, tmp_path):
    path, _ = long_log
    data = bytearray(path.read_bytes())
    middle = [p for p in _headers(data) if data[p + 6] == 3]
    assert middle, "no record of three blocks in the log"
    data[middle[0] + 100] ^= 0xFF
    (run,) = read_wandb_dir(_copy(path, tmp_path, bytes(data)))
    assert run.damaged_records == 1
    assert len(run.history) >= 399  # the piece may belong to the summary record


def test_a_zeroed_block_is_counted_exactly(long_log, tmp_path):
    """Records are numbered, so the gap shows how many are missing."""
    path, _ = long_log
    data = bytearray(path.read_bytes())
    inside = [p for p in _headers(data) if BLOCK <= p < 2 * BLOCK]  # the records there are small: one piece each
    data[BLOCK : 2 * BLOCK] = bytes(BLOCK)
    (run,) = read_wandb_dir(_copy(path, tmp_path, bytes(data)))
    assert run.damaged_records == len(inside) > 50
    assert run.status == "finished"


def test_without_the_run_record_the_id_comes_from_the_file_name(long_log, tmp_path):
    path, _ = long_log
    data = bytearray(path.read_bytes())
    data[_headers(data)[1] + 20] ^= 0xFF
    (run,) = read_wandb_dir(_copy(path, tmp_path, bytes(data)))
    assert (run.id, run.config, run.damaged_records, len(run.history)) == ("long1", {}, 1, 400)
    assert run.started == pytest.approx(path.stat().st_mtime, abs=60)


def test_files_that_are_not_logs_are_left_out_with_a_warning(resumed, tmp_path, caplog):
    for number, data in enumerate([b"", b"hello", b":W&B\xe1\xbe\x07more"]):
        directory = tmp_path / "wandb" / f"offline-run-20260101_00000{number}-x{number}"
        directory.mkdir(parents=True)
        (directory / f"run-x{number}.wandb").write_bytes(data)
    assert read_wandb_dir(tmp_path / "wandb") == []
    assert "skipped: not a W&B transaction log" in caplog.text
    assert "unknown version (e1be07)" in caplog.text
    assert read_wandb_dir(tmp_path / "nothing") == []


def test_hostile_json_in_an_intact_record_costs_that_record(long_log, tmp_path, monkeypatch):
    """A record with a valid checksum may still hold anything."""
    path, _ = long_log

    def nested(text):
        if '"' + "x" * 50 + '"' in text:
            raise RecursionError
        return original(text)

    original = wandb_offline.json.loads
    monkeypatch.setattr(wandb_offline.json, "loads", nested)
    (run,) = read_wandb_dir(path.parent.parent)
    assert len(run.history) == 2
    assert run.damaged_records == 2 * 398  # a summary record and a history record for each row


KILLED = """
import sys, time, wandb
settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True,
                          x_transaction_log_flush_interval=1)
run = wandb.init(project="p", dir=sys.argv[1], mode="offline", id="killed1", config={"seed": 5}, settings=settings)
for step in range(60):
    run.log({"step": step, "reward": step})
time.sleep(2.5)
print("logged", flush=True)
time.sleep(60)
"""


def test_a_killed_run_keeps_what_was_flushed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline() == b"logged\n"
    os.killpg(process.pid, signal.SIGKILL)  # this kills W&B's service process too
    process.wait()
    (run,) = read_wandb_dir(tmp_path / "wandb")
    assert (run.status, run.config) == ("unknown", {"seed": 5})
    assert [row["reward"] for row in run.history] == list(range(60))


def test_rows_with_invalid_steps_are_left_out(tmp_path):
    steps = [1, 1e300, 10**400, math.nan, 2.0, None, "x"]
    fragment = wandb_offline._Fragment(
        tmp_path / "a" / "run-x.wandb", id="x", started=0.0, damaged=1, history=[{"step": step} for step in steps]
    )
    run = wandb_offline._merge([fragment])
    assert [row["step"] for row in run.history] == [1, 2.0]
    assert run.damaged_records == 1 + 3


@pytest.mark.parametrize("texts", [["1,2", ""], ["[1", "2]"], ["1", "nul"], ["1", ""], ["1", "2]]"]])
def test_a_value_that_is_not_json_is_detected_among_others(texts):
    """The values of a record are parsed together, but each has to be valid JSON by itself."""
    with pytest.raises(wandb_offline.json.JSONDecodeError):
        wandb_offline._parse_values(texts)


def test_values_are_parsed_in_order():
    texts = ["1.5", "NaN", '"a,b"', "[1, 2]", "null", '{"x": [], "y": -Infinity}']
    assert repr(wandb_offline._parse_values(texts)) == "[1.5, nan, 'a,b', [1, 2], None, {'x': [], 'y': -inf}]"
    assert wandb_offline._parse_values([]) == []
