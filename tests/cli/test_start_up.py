import json
import statistics
import subprocess
import sys
import time

import pytest
from command_line import CommandLine

import progrpo_cli


def seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def test_help_imports_nothing_heavy() -> None:
    """`progrpo --help` against `import typer`, in turn, medians: at most 2.5 times."""
    ours, typers = [], []
    for _ in range(7):
        ours.append(seconds(sys.executable, "-m", "progrpo_cli", "--help"))
        typers.append(seconds(sys.executable, "-c", "import typer"))
    assert statistics.median(ours) <= 2.5 * statistics.median(typers)


@pytest.mark.parametrize("command", ["train", "eval", "sweep", "report", "list"])
def test_every_command_has_help_and_json(progrpo: CommandLine, command: str) -> None:
    done = progrpo(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert "--quiet" in done.stdout


def test_version(progrpo: CommandLine) -> None:
    assert progrpo("--version").stdout == f"progrpo {progrpo_cli.__version__}\n"


@pytest.mark.parametrize(
    ("what", "name"), [("methods", "progrpo"), ("tasks", "countdown"), ("spaces", "arm_alpha"), ("experiments", "lab")]
)
def test_list(progrpo: CommandLine, what: str, name: str) -> None:
    assert name in [row["name"] for row in progrpo.json("list", what)[what]]
    assert name in progrpo("list", what).stdout


def test_dry_run_prints_the_configuration_and_trains_nothing(progrpo: CommandLine) -> None:
    document = progrpo.json("train", "--dry-run", "method=grpo", "seed=4")
    assert document["config"]["method"]["name"] == "grpo"
    assert document["config"]["seed"] == 4
    text = progrpo("train", "--dry-run", "method=grpo", "seed=4").stdout
    assert document["config_hash"] in text
    assert "learning_rate: 0.0002" in text
    assert progrpo.written() == []


def test_sweep_dry_run_prints_every_run(progrpo: CommandLine) -> None:
    document = progrpo.json("sweep", "--space", "arm_alpha", "--dry-run", "--seeds", "0,1")
    assert len(document["runs"]) == 10
    assert {row["status"] for row in document["runs"]} == {"planned"}
    assert progrpo("sweep", "--space", "arm_alpha", "--dry-run").stdout.count("planned") >= 15
    assert progrpo.written() == []


def test_list_runs_says_nothing_yet(progrpo: CommandLine) -> None:
    assert json.loads(progrpo("list", "runs", "--json").stdout) == {"runs": []}
