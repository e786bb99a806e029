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


def started(path: Path) -> RunDirectory:
    run = RunDirectory(path)
    with run.lock():
        run.start(compose(), model="progrpo/lab-base", study=None)
    return run


def test_the_lock_says_who_holds_it_and_is_let_go(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    with run.lock():
        assert run.in_use()
        assert run.status() == "running"
        with pytest.raises(RequestError, match="in use by process"), RunDirectory(run.path).lock():
            pass
    assert not run.in_use()
    assert run.status() == "interrupted"  # nobody holds it and nobody finished it


def test_looking_whether_a_run_is_in_use_never_refuses_anybody(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
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


def test_a_wrong_request_takes_away_what_it_began_and_nothing_else(tmp_path: Path) -> None:
    new = RunDirectory(tmp_path / "new")

    def begin() -> None:
        new.start(compose(), model="progrpo/lab-base", study=None)
        raise RequestError("no such model")

    with pytest.raises(RequestError), new.lock(), new.deleted_on_request_error():
        begin()
    assert not new.path.exists()
    old = started(tmp_path / "old")
    with pytest.raises(RequestError), old.lock(), old.deleted_on_request_error():
        raise RequestError("no such task")
    assert old.exists


def test_what_is_set_aside_is_not_found_as_a_run(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    started(tmp_path / "study" / "trials" / "other")
    assert [found.name for found in find_runs(tmp_path)] == ["run", "other"]  # oldest first
    aside = run.set_aside()
    assert (aside / "manifest.json").is_file()
    assert [found.name for found in find_runs(tmp_path)] == ["other"]


def test_a_line_that_a_crash_cut_short_is_left_out_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert files.read_lines(path) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert files.read_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\nnot json\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        files.read_lines(path)


@pytest.mark.parametrize("manifest", ['{"kind":', '{"name": "x"}', "[]", "null", '{"kind": "run", "started_at": 1}'])
def test_a_manifest_that_is_not_ours_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, manifest: str
) -> None:
    started(tmp_path / "runs" / "good")
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
