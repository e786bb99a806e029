import json
import subprocess
import sys

import pytest
from command_line import CommandLine

import progrpo_cli

HELP = """
import sys
sys.argv = ["progrpo", "--help"]
from progrpo_cli.main import run
try:
    run()
except SystemExit as end:
    assert not end.code
"""
TYPER = "import typer, typer.rich_utils; typer.main.get_command(typer.Typer(callback=lambda: None))"


def imported_modules(code: str) -> set[str]:
    """Run a program and return the modules that it has imported."""
    program = f"{code}\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_hardly_more_than_typer() -> None:
    """Modules are counted, since seconds would depend on the machine. Other packages come only from Typer."""
    modules, typer_modules = imported_modules(HELP), imported_modules(TYPER)
    added = {name for name in modules - typer_modules if not name.startswith("progrpo_cli")}
    packages = {name.partition(".")[0] for name in added} - {name.partition(".")[0] for name in typer_modules}
    assert packages <= set(sys.stdlib_module_names)
    assert len(added) < 30, sorted(added)
    assert len([name for name in modules if name.startswith("progrpo_cli")]) < 25


@pytest.mark.parametrize("command", ["train", "eval", "sweep", "report", "list"])
def test_every_command_has_help_and_json(progrpo: CommandLine, command: str) -> None:
    done = progrpo(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert "--quiet" in done.stdout


def test_version(progrpo: CommandLine) -> None:
    assert progrpo("--version").stdout == f"progrpo {progrpo_cli.__version__}\n"


@pytest.mark.parametrize(
    ("category", "name"),
    [("methods", "progrpo"), ("tasks", "countdown"), ("spaces", "arm_alpha"), ("experiments", "lab")],
)
def test_list(progrpo: CommandLine, category: str, name: str) -> None:
    assert name in [row["name"] for row in progrpo.json("list", category)[category]]
    assert name in progrpo("list", category).stdout


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


def test_list_runs_without_runs(progrpo: CommandLine) -> None:
    assert json.loads(progrpo("list", "runs", "--json").stdout) == {"runs": []}
