"""Provenance: whether the checkout is dirty, and digests of the modules of methods and judges."""

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from progrpo_cli import tasks
from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.methods.registry import method_classes, method_modules
from progrpo_cli.records import provenance
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tasks.config import KINDS
from progrpo_cli.tasks.registry import JUDGES, judge_modules, make_task
from progrpo_cli.training.launch import _record_changed_sources


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean checkout with a method, a configuration and a space, in which the package seems to be."""
    root = tmp_path / "checkout"
    for name in ("progrpo_cli/records/provenance.py", "experiments/method/grpo.yaml", "sweeps/demo.yaml", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / ".gitignore").write_text("__pycache__/\n/experiments/method/mine.yaml\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", root, *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(root / "progrpo_cli/records/provenance.py"))
    return root


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        (None, False),
        ("progrpo_cli/methods/mine.py", True),
        ("experiments/method/other.yaml", True),
        ("experiments/method/mine.yaml", True),  # ignored by git, but the package reads it
        ("sweeps/mine.yaml", True),
        ("README.md", True),  # tracked and changed
        ("runs/grpo/config.yaml", False),
        ("report/main.csv", False),
        ("scratch.py", False),
        ("progrpo_cli/methods/__pycache__/mine.cpython-311.pyc", False),
        ("progrpo_cli/methods/.mine.py.swp", False),
    ],
)
def test_untracked_code_makes_a_checkout_dirty_and_other_untracked_files_do_not(
    checkout: Path, name: str | None, dirty: bool
) -> None:
    if name is not None:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("y")
    state = provenance.git_state()
    assert state["dirty"] is dirty
    assert len(state["commit"]) == 40


def test_the_digest_of_a_method_covers_its_module_and_its_base_classes() -> None:
    plain = provenance.source_digests(method_modules(compose(["method=dapo"]).method))
    assert set(plain["modules"]) == {"progrpo_cli.methods.base", "progrpo_cli.methods.dapo"}
    file = sys.modules["progrpo_cli.methods.dapo"].__file__
    assert file is not None
    assert plain["modules"]["progrpo_cli.methods.dapo"] == hashlib.sha256(Path(file).read_bytes()).hexdigest()
    reweighted = method_modules(compose(["method=progrpo"]).method)
    assert "progrpo_cli.methods.arm" in reweighted
    assert all(cls.__module__ in method_modules(cls.model_construct(arm=None)) for cls in method_classes().values())


def test_every_kind_of_task_names_the_modules_of_its_judge() -> None:
    assert set(JUDGES) == set(KINDS)
    for kind in KINDS:
        config = KINDS[kind].model_construct(kind=kind, verdict=None)
        digests = provenance.source_digests(judge_modules(config))
        assert all(digests["modules"].values()), digests
    task = make_task(compose().task)
    assert type(task).__module__ in judge_modules(compose().task)


def test_the_modules_that_a_judge_imports_are_in_its_digest() -> None:
    """Those of tasks/, except modules that only provide problems."""
    problems = {"base", "config", "data", "extras", "splits", "countdown.problems"}
    package = Path(tasks.__file__).parent
    for kind, modules in JUDGES.items():
        for module in modules:
            tree = ast.parse((package / f"{module.replace('.', '/')}.py").read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{tasks.__name__}."):
                    name = f"{node.module}.".removeprefix(f"{tasks.__name__}.")
                    is_package = (package / name.replace(".", "/")).is_dir()  # then the imported names are its modules
                    imported = {f"{name}{alias.name}" for alias in node.names} if is_package else {name.rstrip(".")}
                    assert imported - problems <= set(modules), (kind, module)


def test_a_users_verdict_function_is_in_the_judges_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "helpers_of_mine.py").write_text("def judge(problem, text):\n    return True\n")
    (tmp_path / "judge_of_mine.py").write_text("from helpers_of_mine import judge\n")
    own = ["task=own", "task.dataset=x.jsonl", "model.path=progrpo/lab-base"]
    config = compose([*own, "task.verdict=judge_of_mine:judge"])
    before = provenance.source_digests(judge_modules(config.task))
    assert set(before["modules"]) == {
        *("progrpo_cli.tasks.own", "progrpo_cli.tasks.answers"),
        *("judge_of_mine", "helpers_of_mine"),
    }
    source = (tmp_path / "helpers_of_mine.py").read_bytes()
    assert before["modules"]["helpers_of_mine"] == hashlib.sha256(source).hexdigest()
    (tmp_path / "helpers_of_mine.py").write_text("def judge(problem, text):\n    return False\n")
    assert provenance.source_digests(judge_modules(config.task))["sha256"] != before["sha256"]
    with pytest.raises(RequestError, match="no function 'jugde'"):
        judge_modules(compose([*own, "task.verdict=judge_of_mine:jugde"]).task)


def test_a_run_that_continues_with_other_code_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    monkeypatch.setattr(logging.getLogger("progrpo"), "propagate", True)
    sources = {"method": {"sha256": "a", "modules": {}}, "judge": {"sha256": "b", "modules": {}}}
    run = RunDirectory(tmp_path / "run")
    with run.lock():
        run.start(compose(), model="progrpo/lab-base", study=None, sources=sources)
        _record_changed_sources(run, sources)
        assert "sources_since" not in run.manifest()
        other = {**sources, "judge": {"sha256": "c", "modules": {}}}
        _record_changed_sources(run, other)
        _record_changed_sources(run, other)
    (since,) = run.manifest()["sources_since"]
    assert (since["judge"]["sha256"], run.manifest()["sources"]) == ("c", sources)
    (said,) = [message for message in caplog.messages if "the source code of its" in message]
    assert "of its judge has changed" in said
