import logging
import threading
import time
from pathlib import Path

import pytest

from progrpo_cli.commands import listing
from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.records import files
from progrpo_cli.records.find import find_runs
from progrpo_cli.records.rundir import RunDirectory


def start_run(path: Path) -> RunDirectory:
    run = RunDirectory(path)
    with run.lock():
        run.start(compose(), model="progrpo/lab-base", study=None)
    return run


def test_a_locked_directory_is_refused_until_the_lock_is_released(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run")
    with run.lock():
        assert run.in_use()
        assert run.status() == "running"
        with pytest.raises(RequestError, match="in use by process"), RunDirectory(run.path).lock():
            pass
    assert not run.in_use()
    assert run.status() == "interrupted"  # no process holds it, and it is not finished


def test_checking_whether_a_run_is_in_use_never_blocks_its_lock(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run")
    stop = time.monotonic() + 1.0

    def probe() -> None:
        while time.monotonic() < stop:
            RunDirectory(run.path).in_use()

    probers = [threading.Thread(target=probe) for _ in range(2)]
    for prober in probers:
        prober.start()
    while time.monotonic() < stop - 0.2:
        with run.lock():
            pass
    for prober in probers:
        prober.join()


def test_a_request_error_deletes_a_new_run_and_keeps_an_old_one(tmp_path: Path) -> None:
    new = RunDirectory(tmp_path / "new")

    def start_and_fail() -> None:
        new.start(compose(), model="progrpo/lab-base", study=None)
        raise RequestError("no such model")

    with pytest.raises(RequestError), new.lock(), new.deleted_on_request_error():
        start_and_fail()
    assert not new.path.exists()
    old = start_run(tmp_path / "old")
    with pytest.raises(RequestError), old.lock(), old.deleted_on_request_error():
        raise RequestError("no such task")
    assert old.exists


def test_a_run_that_was_set_aside_is_not_listed(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run")
    start_run(tmp_path / "study" / "trials" / "other")
    assert [run.name for run in find_runs(tmp_path)] == ["run", "other"]  # oldest first
    aside = run.set_aside()
    assert (aside / "manifest.json").is_file()
    assert [run.name for run in find_runs(tmp_path)] == ["other"]


def test_an_incomplete_last_line_is_left_out_and_a_damaged_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert files.read_lines(path) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert files.read_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\nnot json\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        files.read_lines(path)


@pytest.mark.parametrize("manifest", ['{"kind":', '{"name": "x"}', "[]", "null", '{"kind": "run", "started_at": 1}'])
def test_a_run_with_a_foreign_manifest_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, manifest: str
) -> None:
    start_run(tmp_path / "runs" / "good")
    odd = tmp_path / "runs" / "odd"
    odd.mkdir()
    (odd / "manifest.json").write_text(manifest)
    (odd / "config.yaml").write_text("- 1\n")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        assert [row["directory"] for row in listing.list_rows("runs")] == ["runs/good"]
    (warning,) = caplog.messages
    assert "left out: runs/odd is not a run directory" in warning
    with pytest.raises(RequestError, match="is not a run directory"):
        RunDirectory(odd).manifest()
