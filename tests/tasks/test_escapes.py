"""Outliving the sandbox, and memory where no limit looks: as the user who runs the tests and as one who is not root."""

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
USUAL_PYTHON = Path("/usr/bin/python3")  # that everybody may read


def as_this_user(tmp_path: Path) -> dict:
    return told([sys.executable, str(PROGRAM), str(PACKAGE.parent)])


def as_another_user(tmp_path: Path) -> dict:
    if os.geteuid() != 0:
        pytest.skip("changes the user, which only root can")
    if not USUAL_PYTHON.exists():
        pytest.skip("no Python that everybody can read")
    root = tmp_path / "package"
    shutil.copytree(PACKAGE, root / "progrpo_cli", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(PROGRAM, root)
    for parent in [root, *root.parents][:-1]:
        parent.chmod(parent.stat().st_mode | 0o055)
    return told([str(USUAL_PYTHON), str(root / PROGRAM.name), str(root)], user=61000, group=61000, extra_groups=[])


def told(command: list[str], **options) -> dict:
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"]}, cwd="/", capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("of", [as_this_user, as_another_user])
def test_nothing_outlives_the_sandbox_and_nothing_hides_from_its_limits(of, tmp_path: Path) -> None:
    require_bubblewrap()
    result = of(tmp_path)
    assert (result.pop("user") == 0) == (of is as_this_user and os.geteuid() == 0)
    assert result == {
        "OVERWRITE_INIT": "wrong",
        "FULL_PAIRS": "memory",
        "FULL_BACKLOG": "memory",
        "REFUSED": "correct",
        "ASYNCIO": "correct",
        "MULTIPROCESSING": "correct",
        "stays": "correct",
        "stays: left": 0,
        "stays, and the init too": "correct",
        "stays, and the init too: left": 0,
    }


def test_a_process_that_cannot_be_ended_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    from progrpo_cli.tasks.code import program

    require_bubblewrap()
    it = Sandbox("bubblewrap", "test").start({"mode": "program", "source": "1", "input": ""}, Limits())
    it.everything()
    monkeypatch.setattr(program, "_GONE", 0.0)
    monkeypatch.setattr(program.signal, "pidfd_send_signal", lambda *_: None)
    it._init = os.pidfd_open(os.getpid())  # stands for the first process of a sandbox that does not go
    with pytest.raises(WorkError, match="is left"):
        it.__exit__()
