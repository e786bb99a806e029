"""Methods and kinds of tasks of other installed packages, and the user's own folder of configurations."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import TINY, CommandLine

ROOT = Path(__file__).parents[2]
CODE = '''
open("imported", "w").close()

from typing import ClassVar, Literal

from progrpo_cli.methods.base import Method
from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.config import TaskConfig


class Shift(Method):
    name: Literal["shift"]
    by: float
    arm: None = None


class Digits:
    """Every completion with a certain digit is correct."""

    chat = canonical_forms = False

    def __init__(self, config):
        self.name, self.max_new_tokens, self.digit = config.name, config.max_new_tokens, config.digit

    def problems(self, split):
        return [Problem(f"{split}-{number}", f"{number} 1 1 1=") for number in range(1, 5)]

    def verdicts(self, attempts):
        return ["correct" if self.digit in attempt.text else "wrong" for attempt in attempts]

    def canonical(self, problem, text):
        return None


class DigitsConfig(TaskConfig):
    kind: Literal["digits"]
    digit: str

    def make_task(self):
        return Digits(self)
'''
ENTRY_POINTS = """
[progrpo.methods]
shift = others:Shift
broken = others_broken:Broken
misnamed = others:Shift
odd = others:Digits
grpo = others:Shift
[progrpo.tasks]
digits = others:DigitsConfig
"""
SPACE = {"parameters": {"method": ["grpo", "shift"]}, "seeds": [0], "objectives": [{"metric": "pass@1"}], "k": [1]}
FOLDER = {
    **{
        f"method/{name}.yaml": {"name": name, "clip_low": 0.2, "clip_high": 0.28, "arm": None, "by": 0.5}
        for name in ("shift", "broken", "misnamed", "odd", "nowhere")
    },
    "task/digits.yaml": {
        **{"kind": "digits", "name": "digits", "digit": "1", "max_new_tokens": 8},
        **{"rl_problems": None, "validation_problems": None, "test_problems": None},
    },
    "task/evil.yaml": {
        **yaml.safe_load((ROOT / "experiments/task/own.yaml").read_text()),
        **{"verdict": "others:judge", "dataset": "mine/problems.jsonl"},
    },
    "sweeps/both.yaml": SPACE,
}
MINE = ["--config-dir", "mine"]


@pytest.fixture
def others(progrpo: CommandLine) -> CommandLine:
    """A command line with another package installed, which leaves a file when it is imported, and a --config-dir."""
    site = progrpo.directory / "site"
    (site / "others-1.dist-info").mkdir(parents=True)
    (site / "others-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (site / "others-1.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "others.py").write_text(CODE)
    for name, content in FOLDER.items():
        path = progrpo.directory / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    progrpo.environment["PYTHONPATH"] = os.pathsep.join([str(site), str(ROOT)])
    return progrpo


def was_imported(command: CommandLine) -> bool:
    path = command.directory / "imported"
    imported = path.exists()
    path.unlink(missing_ok=True)
    return imported


def assert_refused(command: CommandLine, words: str, *arguments: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_another_package_is_imported_only_when_it_is_needed(others: CommandLine) -> None:
    for arguments in (["--help"], ["list", "methods"], ["train", *MINE, "--dry-run", "method=grpo"]):
        assert others(*arguments).returncode == 0
        assert not was_imported(others), arguments
    document = others.json("train", *MINE, "--dry-run", "method.by=0.25", "method=shift")
    assert (document["config"]["method"]["name"], document["config"]["method"]["by"]) == ("shift", 0.25)
    assert was_imported(others)
    hashes = {document["config_hash"], others.json("train", *MINE, "--dry-run", "method=shift")["config_hash"]}
    assert len(hashes) == 2  # its options are part of the hash
    planned = others.json("sweep", *MINE, "--space", "both", "--dry-run")["runs"]
    assert [run["method"] for run in planned] == ["grpo", "shift"]
    assert others("train", "--dry-run", "method=grpo").returncode == 0  # another package's `grpo` is ignored


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=shift", "method.bye=1"], "method.bye: unknown key; did you mean 'method.by'?"),
        (["method=shift", "method.by=x"], "method.by=x: Input should be a valid number"),
        (["method=shfit"], "unknown method 'shfit'; did you mean 'shift'?"),
        (["method=broken"], "cannot be imported: ModuleNotFoundError: No module named 'others_broken'"),
        (["method=misnamed"], "the type of its field 'name' has to be Literal[\"misnamed\"]"),
        (["method=odd"], "is not a subclass of progrpo_cli.methods.base.Method"),
        (["method=nowhere"], "no method 'nowhere' is installed"),
        (["task=evil"], "sets task.verdict=others:judge, which runs code without protection: a file cannot ask"),
    ],
)
def test_errors_of_another_package_or_folder_are_one_line(
    others: CommandLine, overrides: list[str], words: str
) -> None:
    assert_refused(others, words, "train", *MINE, "--dry-run", *overrides)


def test_a_config_dir_holds_only_data_and_new_names(others: CommandLine) -> None:
    mine = others.directory / "mine"
    approved = others("train", *MINE, "--dry-run", "task=evil", "task.verdict=others:judge")
    assert approved.returncode == 0, approved.stderr
    for name, text, words in (
        ("method/grpo.yaml", "name: grpo", "progrpo ships method/grpo.yaml"),
        ("sweeps/arm_alpha.yaml", "seeds: [0]", "progrpo ships sweeps/arm_alpha.yaml"),
        ("model/mine.yaml", "path: ${oc.env:HOME}", "interpolations"),
        ("model/mine.yaml", "_target_: os.system", "cannot create objects"),
        ("model/mine.yaml", "!!python/name:os.system x", "not plain YAML"),
    ):
        (mine / name).parent.mkdir(exist_ok=True)
        (mine / name).write_text(text)
        assert_refused(others, words, "train", *MINE, "--dry-run")
        (mine / name).unlink()
    assert_refused(others, "--config-dir nowhere: no such folder", "train", "--config-dir", "nowhere")
    assert_refused(others, "it has none of the folders experiment, method", "eval", "--config-dir", "site")
    assert_refused(others, "unknown space 'bth'; did you mean 'both'?", "sweep", *MINE, "--space", "bth")


def test_a_config_dir_may_have_characters_of_hydras_grammar_in_its_name(others: CommandLine) -> None:
    odd = others.directory / "my 'own', [folder]"
    (others.directory / "mine").rename(odd)
    document = others.json("train", "--config-dir", odd.name, "--dry-run", "method=shift")
    assert document["config"]["method"]["by"] == 0.5


def test_a_task_of_another_packages_kind_is_evaluated(others: CommandLine) -> None:
    scores = others.json("eval", "progrpo/lab-base", *MINE, "--tasks", "digits", "--k", "1", "--n", "8")
    assert scores["task"] == "digits"
    assert scores["problems"] == 4
    assert 0 < scores["pass@1"]["value"] <= 1
    other = others.json(
        *("eval", "progrpo/lab-base", *MINE, "--tasks", "digits", "--k", "1", "--n", "8", "--set", "task.digit='!'")
    )
    assert other["pass@1"]["value"] == 0


def test_a_run_from_somebody_else_imports_nothing(
    others: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    run = others.directory / "runs" / "sent"
    shutil.copytree(trained[1]["grpo"], run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["method"] = {**config["method"], "name": "shift", "by": 0.5}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    words = "method.name=shift, which runs another package's code"
    assert_refused(others, words, "eval", "runs/sent", "--k", "1", "--n", "2")
    assert_refused(others, words, "eval", "runs/sent", "--k", "1", "--n", "2", "--tasks", "countdown")
    assert not was_imported(others)
    assert others("eval", "runs/sent", "--k", "1", "--n", "2", "--limit", "4", "--trust-config").returncode == 0
    assert was_imported(others)
    for arguments in (
        ["list", "runs"],
        ["report", "runs/sent", "--format", "csv"],
        ["sweep", "--space", "arm_alpha", "--dry-run"],
    ):
        assert others(*arguments).returncode == 0
        assert not was_imported(others), arguments


def test_a_study_from_somebody_else_imports_nothing(others: CommandLine) -> None:
    small = [*TINY[:3], "train.steps=2", *TINY[4:], "tracking.wandb.mode=disabled"]
    started = others("sweep", *MINE, "--space", "both", "--workers", "1", *small)
    assert started.returncode == 0, started.stderr  # the command that starts a study has approved its demands
    shutil.move(others.directory / "runs" / "both", others.directory / "sent")
    (others.directory / "sent" / ".study.signature").unlink()  # without it, the study could be somebody else's
    assert was_imported(others)
    words = "method.name=shift, which runs another package's code"
    assert_refused(others, words, "sweep", "--worker", "--study", "sent")
    assert not was_imported(others)
    manifest = json.loads((next((others.directory / "sent" / "trials").iterdir()) / "manifest.json").read_text())
    assert manifest["curves"] == []
