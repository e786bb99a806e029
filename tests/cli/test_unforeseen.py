"""What nobody foresaw is one line, exit code 1 and a file that only this user can read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from progrpo_cli import main

SECRET = "s3cret-value"


def ends(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException) -> tuple[int, str]:
    def fails(**_: object) -> None:
        held = SECRET
        assert held
        raise error

    monkeypatch.setattr(main, "app", fails)
    monkeypatch.setattr(sys, "argv", ["progrpo", "list", "runs"])
    with pytest.raises(SystemExit) as left:
        main.run()
    return left.value.code, capsys.readouterr().err


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
    code, said = ends(capsys, monkeypatch, error)
    assert code == 1
    assert said.count("\n") == 1
    (kept,) = (state / "progrpo" / "crashes").iterdir()
    assert str(kept) in said
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in kept.read_text()
    assert type(error).__name__ in kept.read_text()
    assert SECRET not in kept.read_text()


def test_without_a_place_for_the_file_it_is_one_line_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    code, said = ends(capsys, monkeypatch, KeyError("no"))
    assert (code, said.count("\n")) == (1, 1)


def test_a_message_of_a_megabyte_and_escape_sequences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = ends(capsys, monkeypatch, ValueError("\x1b]0;evil\x07" + "x" * (1 << 20)))
    assert code == 1
    assert len(said) < 3000
    assert "\x1b" not in said


def test_a_path_that_is_too_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = ends(capsys, monkeypatch, OSError(36, "File name too long", "x" * 5000))
    assert code == 2
    assert "too long" in said or "..." in said


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); sys.argv = ['progrpo', 'list', 'runs', '--json']\n"
    code += "from progrpo_cli.main import run; run()"
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "progrpo: the working directory does not exist any more\n"
    assert json.loads(done.stdout)["exit_code"] == 2
