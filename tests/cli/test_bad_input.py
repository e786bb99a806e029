"""Bad input: one line on stderr, exit code 2, without slow imports, and nothing is written."""

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import TINY, CommandLine

from progrpo_cli import main
from progrpo_cli.records import files

CASES = [
    (["train", "method.arm.alhpa=1"], "method.arm.alpha"),
    (["train", "+foo.bar=1"], "unknown key"),
    (["train", "train.steps=many"], "train.steps"),
    (["train", "method.arm.alpha=nan"], "finite"),
    (["train", "method.arm.alpha=-inf"], "finite"),
    (["train", "method.arm.low_fraction=0"], "low_fraction"),
    (["train", "method.arm.low_fraction=1.5"], "low_fraction"),
    (["train", "--experiment", "labb"], "lab"),
    (["train", "method=grp"], "grpo"),
    (["train", "model.path=nowhere"], "nowhere"),
    (["train", "--nonsense"], "--nonsense"),
    (["eval", "--k", "0"], "k must be at least 1"),
    (["eval", "progrpo/lab-base", "--k", "64", "--n", "32"], "--n 64"),
    (["eval", "progrpo/lab-base", "--k", "1,x"], "whole numbers"),
    (["eval", "nowhere"], "owner/name"),
    (["eval", "runs/nope"], "there is no directory runs/nope"),
    (["eval", "./nope"], "there is no directory ./nope"),
    (["train", "task=own", "task.template=hello"], "{question} is missing"),
    (["train", "train.rewards={formt: 0.1}"], "did you mean 'train.rewards.format'"),
    (["train", "model.path=modèle"], "quote values that are not ASCII"),
    (["eval"], "no finished run"),
    (["eval", "progrpo/lab-base", "--tasks", "countdwn"], "countdown"),
    (["eval", "progrpo/lab-base", "--backend", "tf"], "hf"),
    (["eval", "progrpo/lab-base", "--temperature", "0.001"], "must be 0 (greedy)"),
    (["eval", "progrpo/lab-base", "--temperature", "0.5,-1"], "--temperature -1: must be 0 (greedy)"),
    (["eval", "progrpo/lab-base", "--temperature", "nan"], "must be 0 (greedy)"),
    (["eval", "progrpo/lab-base", "--temperature", "1,0.3,1.0"], "--temperature 1: given twice"),
    (["eval", "progrpo/lab-base", "--temperature", "1,warm"], "numbers separated by commas"),
    (["eval", "progrpo/lab-base", "--split", "tset"], "did you mean 'test'"),
    (["sweep", "--space", "arm_alhpa"], "arm_alpha"),
    (["sweep"], "arm_alpha"),
    (["sweep", "--space", "arm_alpha", "method.arm.alpha=3"], "varies"),
    (["sweep", "--space", "arm_alpha", "seed=7"], "--seeds"),
    (["sweep", "--space", "arm_alpha", "--seeds", "99999999999"], "4294967295"),
    (["sweep", "--space", "arm_alpha", "--study", ".."], "--study"),
    (["sweep", "--worker", "--study", "none"], "no study"),
    (["sweep", "--space", "nowhere.yaml"], "nowhere.yaml cannot be read"),
    (["sweep", "--space", "arm_alpha", "--storage", "postgresql+psycopg://me:pw@db/x"], "PGPASSWORD"),
    (["sweep", "--space", "arm_alpha", "--storage", "postgresql+psycopg://me:pw/#?@db/x"], "PGPASSWORD"),
    (["sweep", "--worker", "--study", "x", "--storage", "postgresql+psycopg://me@db/x?password=pw"], "PGPASSWORD"),
    (["sweep", "--space", "arm_alpha", "--storage", "postgresql+psycopg://db:many/x"], "PORT"),
    (["sweep", "--space", "arm_alpha", "--storage", "postgresql://db/x"], "postgresql+psycopg"),
    (["sweep", "--space", "arm_alpha", "--storage", "sqlite:///x.db"], "database is locked"),
    (["sweep", "--space", "arm_alpha", "--sampler", "gird"], "grid"),
    (["sweep", "--space", "arm_alpha", "--launcher", "slrum"], "slurm"),
    (["sweep", "--space", "arm_joint", "--trials", "0"], "--trials"),
    (["sweep", "--space", "arm_joint", "train.eval_every=0"], "eval_every"),
    (["sweep", "--status"], "which study"),
    (["sweep", "--space", "arm_alpha", "--trust-config"], "--worker"),
    (["report", "--power", "--difference", "0"], "--difference 0"),
    (["report", "--difference", "0.1"], "needs --power"),
    (["report"], "runs"),
    (["report", "--format", "docx"], "docx"),
    (["list", "spces"], "spaces"),
    (["nonsense"], "nonsense"),
]


SLOW = ("torch", "transformers", "trl", "vllm")
"""Packages that take seconds to import."""
WITNESS = f"""
import atexit, os, sys

def report():
    with open(os.environ["WITNESS"], "a") as file:
        file.write("".join(name + "\\n" for name in {SLOW!r} if name in sys.modules))

atexit.register(report)
"""


@pytest.fixture
def slow_imports(tmp_path_factory: pytest.TempPathFactory, progrpo: CommandLine) -> Path:
    """A file to which the command writes the slow packages that it has imported, one per line.

    Seconds would depend on the machine.
    """
    directory = tmp_path_factory.mktemp("witness")
    (directory / "sitecustomize.py").write_text(WITNESS)
    progrpo.environment["WITNESS"] = str(directory / "imported")
    progrpo.environment["PYTHONPATH"] = os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])
    return directory / "imported"


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_one_line_exit_two_nothing_written(
    progrpo: CommandLine, slow_imports: Path, arguments: list[str], message: str
) -> None:
    done = progrpo(*arguments)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "pw" not in done.stderr
    assert progrpo.written() == []
    assert slow_imports.read_text() == ""


@pytest.mark.parametrize("arguments", [["train", "method=grp"], ["eval", "--n", "x"], ["nonsense"]])
def test_json_errors_are_one_document(progrpo: CommandLine, arguments: list[str]) -> None:
    done = progrpo(*arguments, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2


@pytest.mark.parametrize("arguments", [["train", *TINY], ["eval", "progrpo/lab-base"], ["sweep", "--space", "demo"]])
def test_an_invalid_wandb_mode_is_refused_before_anything_is_written(
    progrpo: CommandLine, arguments: list[str]
) -> None:
    done = progrpo(*arguments, WANDB_MODE="offlin")
    assert done.returncode == 2
    assert "did you mean 'offline'" in done.stderr
    assert progrpo.written() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "task=countdown_chat", "--run-dir", "run"], "has no chat template"),
        (["train", "model.path=owner/no-such-model", "--run-dir", "run"], "cannot load owner/no-such-model"),
        (["eval", "owner/no-such-model", "--k", "1"], "cannot load owner/no-such-model"),
        (["eval", "progrpo/lab-base", "--tasks", "countdown_chat", "--k", "1"], "has no chat template"),
    ],
)
def test_a_model_that_cannot_be_used_leaves_nothing_behind(
    progrpo: CommandLine, arguments: list[str], message: str
) -> None:
    done = progrpo(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not [path for path in progrpo.written() if path not in ("runs",)]


def test_a_file_is_refused_as_a_run_directory(progrpo: CommandLine) -> None:
    (progrpo.directory / "file").write_text("x")
    for path in ("file", "file/below"):
        done = progrpo("train", *TINY, "--run-dir", path)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_heavy_packages_are_not_imported_for_bad_input() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.argv = ['progrpo', 'eval', 'progrpo/lab-base', '--k', '9', '--n', '3']\n"
        "from progrpo_cli.main import run\n"
        "try: run()\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "print([name for name in ('torch', 'transformers', 'trl', 'wandb', 'optuna', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_directory_of_another_configuration_or_seed_is_refused(
    progrpo: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    shutil.copytree(trained[1]["progrpo"], progrpo.directory / "run")
    before = progrpo.written()
    other = progrpo("train", *TINY, "method.arm.alpha=0.3", "--run-dir", "run")
    assert other.returncode == 2
    assert "method.arm.alpha is 1.0, not 0.3" in other.stderr
    seed = progrpo("train", *TINY, "seed=1", "--run-dir", "run")
    assert seed.returncode == 2
    assert "seed is 0, not 1" in seed.stderr
    foreign = progrpo.directory / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    assert progrpo("train", *TINY, "--run-dir", "foreign").returncode == 2
    assert [path for path in progrpo.written() if not path.startswith("foreign")] == before


def test_a_run_directory_in_use_is_refused(progrpo: CommandLine) -> None:
    (progrpo.directory / "run").mkdir()
    with files.locked(progrpo.directory / "run" / ".lock"):
        done = progrpo("train", *TINY, "--run-dir", "run")
    assert done.returncode == 2
    assert "in use" in done.stderr
    assert progrpo.written() == ["run", "run/.lock"]


def test_names_in_errors_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main._fail("16 in \x1b[31mred\u202e;\n8 in other\x9b2J", 1)
    assert capsys.readouterr().err == "progrpo: 16 in [31mred; 8 in other2J\n"
