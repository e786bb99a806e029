"""Untrusted names, parameters and tags are escaped on the terminal and in tables."""

import csv
from pathlib import Path

import pytest

from progrpo_cli.console import log, progress, results, set_up_logging

EVIL = "[red]x[/red] :boom: \x1b]0;title\x07\x1b[2J\u202e\x9b31m"


def assert_escaped(text: str) -> None:
    assert "[red]x[/red] :boom:" in text
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)


def test_results(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    console = results()
    console.print(table)
    assert capsys.readouterr().out.count("[red]x[/red] :boom:") == 3
    console.print(table)
    console.print(EVIL)
    assert_escaped(capsys.readouterr().out)


def test_the_log_keeps_its_lines(capsys: pytest.CaptureFixture[str], log_as_before: None) -> None:
    set_up_logging(0)
    log.info(f"first {EVIL}\nsecond")
    with progress(1, EVIL) as bar:
        bar.update(1, EVIL)
    text = capsys.readouterr().err
    assert_escaped(text)
    assert text.startswith("first [red]")
    assert "\nsecond\n" in text


def test_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    from progrpo_cli.commands.options import print_result

    print_result({}, False, f"{EVIL}\nsecond")
    text = capsys.readouterr().out
    assert_escaped(text)
    assert text.endswith("\nsecond\n")


def test_trials_csv_contains_no_formulas(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from progrpo_cli.studies import trial_tables

    row = {"=key": "=1+1", "value": -0.5, "none": None, "worker": "me", "error": "@SUM(A1)\x1b[2J"}
    trial_tables.write_trials_csv(SimpleNamespace(directory=tmp_path), [row])
    header, cells = csv.reader((tmp_path / "trials.csv").open())
    assert header == ["'=key", "value", "none", "error"]
    assert cells == ["'=1+1", "-0.5", "", "'@SUM(A1)[2J"]
