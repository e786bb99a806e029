"""Pipes, devices and files that are too large are refused by every reader, which does not block or fill the memory."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from progrpo_cli.config import plain_yaml
from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.policies import policy
from progrpo_cli.records import files
from progrpo_cli.records.find import find_runs
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.storage import open_store, read_store
from progrpo_cli.tasks.data import json_lines
from progrpo_cli.tracking import wandb_server
from progrpo_cli.untrusted import NotAFile, count_lines, open_lock, read_text

SECONDS = 60
"""How long a reader may take, on a busy machine, until it counts as blocked."""


@pytest.fixture(autouse=True)
def fail_if_blocked() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a reader is blocked"))
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def unix_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has to be short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def directory(path: Path) -> None:
    path.mkdir()


KINDS = [pipe, endless, sparse, unix_socket, directory]
ERRORS = (OSError, ValueError, RequestError)


def take_lock(run: RunDirectory) -> None:
    with run.lock():
        pass


def read_run_curves(run: RunDirectory) -> object:
    from progrpo_cli.reporting.reading.run_directories import read_curves

    return read_curves(run.metrics_path)


def read_wandb_log(run: RunDirectory) -> object:
    from progrpo_cli.tracking.wandb_offline import _read_fragment

    return _read_fragment(run.path / "run-abc.wandb")


READERS = {
    "manifest.json": RunDirectory.manifest,
    "config.yaml": RunDirectory.config,
    "trained_on.json": RunDirectory.trained_on,
    ".lock": take_lock,
    "metrics.jsonl": read_run_curves,
    "run-abc.wandb": read_wandb_log,
    "samples.jsonl": lambda run: files.read_lines(run.path / "samples.jsonl"),
    "problems.jsonl": lambda run: list(json_lines(run.path / "problems.jsonl")),
    "counted": lambda run: count_lines(run.path / "counted"),
    "space.yaml": lambda run: plain_yaml.read(run.path / "space.yaml"),
    "optuna.journal": lambda run: open_store(run.path, None),
    ".study.lock": lambda run: open_store(run.path, None).exclusive().__enter__(),
}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_it(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(compose(), model="progrpo/lab-base", study=None)
    (run.path / name).unlink(missing_ok=True)
    make(run.path / name)
    with pytest.raises(ERRORS):
        READERS[name](run)


@pytest.mark.parametrize("make", KINDS)
def test_runs_can_be_listed_and_their_locks_checked(tmp_path: Path, make: Callable[[Path], None]) -> None:
    for name in ("a", "b"):
        RunDirectory(tmp_path / name).start(compose(), model="progrpo/lab-base", study=None)
    (tmp_path / "a" / "manifest.json").unlink()
    make(tmp_path / "a" / "manifest.json")
    make(tmp_path / "b" / ".lock")
    assert [run.name for run in find_runs(tmp_path)] == ["b"]
    assert not RunDirectory(tmp_path / "b").in_use()


def test_a_lock_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name, make_link in (("link", os.symlink), ("hard", os.link)):
        make_link(precious, tmp_path / name)
        with pytest.raises(OSError, match="symbolic" if name == "link" else "not a lock"):
            open_lock(tmp_path / name)
    run = RunDirectory(tmp_path / "run")
    run.start(compose(), model="progrpo/lab-base", study=None)
    (run.path / ".lock").symlink_to(precious)
    with pytest.raises(RequestError):
        take_lock(run)
    assert precious.read_text() == "mine"


def test_reading_a_file_of_zeros_stops_at_the_limit_of_a_line(tmp_path: Path) -> None:
    zeros = tmp_path / "samples.jsonl"
    with zeros.open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(ValueError, match="longer than"):
        files.read_lines(zeros)
    with pytest.raises(RequestError, match="longer than"):
        list(json_lines(zeros))


def test_a_file_that_is_read_at_once_has_a_limited_size(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(2000))
    with pytest.raises(NotAFile, match="more than"):
        read_text(tmp_path / "x", 1000)


@pytest.mark.parametrize("make", [pipe, endless, unix_socket])
def test_a_model_with_something_that_is_not_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "config.json").write_text("{}")
    make(tmp_path / "tokenizer.json")
    with pytest.raises(RequestError, match="not a regular file"):
        policy.load_tokenizer(policy.Source("x", str(tmp_path)), chat=False)


@pytest.mark.parametrize("make", KINDS)
def test_a_study_whose_journal_is_not_a_file_cannot_be_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "optuna.journal")
    with pytest.raises(RequestError, match=r"optuna\.journal"):
        read_store(tmp_path, None)


@pytest.mark.parametrize("make", KINDS)
def test_a_cache_of_wandb_runs_that_is_not_files_counts_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    query = wandb_server.Query("me", "project", {})
    query.listing_path.parent.mkdir(parents=True)
    make(query.listing_path)
    with pytest.raises(RequestError, match="never fetched"):
        wandb_server.read_cache(query)
    query.listing_path.rmdir() if query.listing_path.is_dir() else query.listing_path.unlink()
    query.listing_path.write_text('["abc"]')
    make(query.run_path("abc"))
    with pytest.raises(RequestError, match="not in the cache"):
        wandb_server.read_cache(query)
