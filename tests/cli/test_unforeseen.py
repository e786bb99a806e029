"""Unexpected errors: one line, exit code 1, and a file with the traceback that only this user can read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from progrpo_cli import main

SECRET = "s3cret-value"


def run_and_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> tuple[int, str]:
    def fail(**_: object) -> None:
        secret = SECRET
        assert secret
        raise error

    monkeypatch.setattr(main, "app", fail)
    monkeypatch.setattr(sys, "argv", ["progrpo", "list", "runs"])
    with pytest.raises(SystemExit) as caught:
        main.run()
    return caught.value.code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("API_KEY", SECRET)
    return tmp_path / "state"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("no"), AttributeError("x"), RecursionError(), TypeError("a\nb"), OSError(5, "broken")]
)
def test_one_line_and_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: Path, error: Exception
) -> None:
    code, err = run_and_fail(capsys, monkeypatch, error)
    assert code == 1
    assert err.count("\n") == 1
    (file,) = (state / "progrpo" / "crashes").iterdir()
    assert str(file) in err
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in file.read_text()
    assert type(error).__name__ in file.read_text()
    assert SECRET not in file.read_text()


def test_one_line_if_the_file_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    code, err = run_and_fail(capsys, monkeypatch, KeyError("no"))
    assert (code, err.count("\n")) == (1, 1)


def test_a_message_of_a_megabyte_and_escape_sequences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, err = run_and_fail(capsys, monkeypatch, ValueError("\x1b]0;evil\x07" + "x" * (1 << 20)))
    assert code == 1
    assert len(err) < 3000
    assert "\x1b" not in err


def test_a_path_that_is_too_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, err = run_and_fail(capsys, monkeypatch, OSError(36, "File name too long", "x" * 5000))
    assert code == 2
    assert "too long" in err or "..." in err


def test_a_deleted_working_directory(tmp_path: Path) -> None:
    directory = tmp_path / "deleted"
    directory.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); sys.argv = ['progrpo', 'list', 'runs', '--json']\n"
    code += "from progrpo_cli.main import run; run()"
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "progrpo: the working directory does not exist any more\n"
    assert json.loads(done.stdout)["exit_code"] == 2
