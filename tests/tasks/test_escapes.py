"""Programs that try to outlive the sandbox or to use memory that no limit counts, as this user and as another one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bubblewrap import require_bubblewrap

from progrpo_cli.errors import WorkError
from progrpo_cli.tasks.code.program import Limits
from progrpo_cli.tasks.code.sandbox import Sandbox

PACKAGE = Path(__file__).parents[2] / "progrpo_cli"
PROGRAM = Path(__file__).with_name("escapes.py")
SYSTEM_PYTHON = Path("/usr/bin/python3")  # readable by all users


def run_as_this_user(tmp_path: Path) -> dict:
    return run([sys.executable, str(PROGRAM), str(PACKAGE.parent)])


def run_as_another_user(tmp_path: Path) -> dict:
    if os.geteuid() != 0:
        pytest.skip("only root can change the user")
    if not SYSTEM_PYTHON.exists():
        pytest.skip("no Python that other users can read")
    root = tmp_path / "package"
    shutil.copytree(PACKAGE, root / "progrpo_cli", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(PROGRAM, root)
    for parent in [root, *root.parents][:-1]:
        parent.chmod(parent.stat().st_mode | 0o055)
    return run([str(SYSTEM_PYTHON), str(root / PROGRAM.name), str(root)], user=61000, group=61000, extra_groups=[])


def run(command: list[str], **options) -> dict:
    process = subprocess.run(
        command, env={"PATH": os.environ["PATH"]}, cwd="/", capture_output=True, text=True, timeout=300, **options
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("run_escapes", [run_as_this_user, run_as_another_user])
def test_nothing_outlives_the_sandbox_or_avoids_its_limits(run_escapes, tmp_path: Path) -> None:
    require_bubblewrap()
    result = run_escapes(tmp_path)
    assert (result.pop("user") == 0) == (run_escapes is run_as_this_user and os.geteuid() == 0)
    assert result == {
        "OVERWRITE_INIT": "wrong",
        "FULL_PAIRS": "memory",
        "FULL_BACKLOG": "memory",
        "REFUSED": "correct",
        "ASYNCIO": "correct",
        "MULTIPROCESSING": "correct",
        "stays": "correct",
        "stays: still running": 0,
        "stays, and the init too": "correct",
        "stays, and the init too: still running": 0,
    }


def test_a_sandbox_that_cannot_be_ended_is_an_error_not_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    from progrpo_cli.tasks.code import program

    require_bubblewrap()
    started = Sandbox("bubblewrap", "test").start({"mode": "program", "source": "1", "input": ""}, Limits())
    started.read_all()
    monkeypatch.setattr(program, "_END_TIMEOUT", 0.0)
    monkeypatch.setattr(program.signal, "pidfd_send_signal", lambda *_: None)
    started._init = os.pidfd_open(os.getpid())  # stands for the first process of a sandbox that does not end
    with pytest.raises(WorkError, match="is still running"):
        started.__exit__()
