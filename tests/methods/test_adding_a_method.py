"""docs/adding-a-method.md works as written: its folder, built and installed, adds a method."""

import csv
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from command_line import TINY, CommandLine, read_metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
# A line "`path`:" and the code block after it.
FILES = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
METHOD, TEST, CONFIGURATION = "asymre.py", "test_asymre.py", "configurations/method/asymre.yaml"
SPACE = "configurations/sweeps/asymre_shift.yaml"
OFF = "tracking.wandb.mode=disabled"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("my-methods")
    assert set(FILES) == {METHOD, TEST, CONFIGURATION, SPACE, "pyproject.toml"}
    for name, text in FILES.items():
        (written / name).parent.mkdir(parents=True, exist_ok=True)
        (written / name).write_text(text, encoding="utf-8")
    return written


def build_wheel(folder: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, folder]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH with the files that pip would install from the folder."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(build_wheel(folder, tmp_path_factory.mktemp("wheel"))).extractall(site)
    return site


def test_the_pages_test_passes_and_its_code_is_clean(folder: Path, installed: Path) -> None:
    def tool(*command: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
        command = (sys.executable, "-m", *command)
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    done = tool("pytest", "-q", "-p", "no:cacheprovider", TEST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    for checker in (["ruff", "check", *config], ["ruff", "format", "--check", *config]):
        done = tool(*checker, METHOD, TEST)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_method_trains(folder: Path, installed: Path, progrpo: CommandLine) -> None:
    progrpo.environment["PYTHONPATH"] = os.pathsep.join([str(installed), str(ROOT)])
    mine = ["--config-dir", str(folder / "configurations")]
    wrong = progrpo("train", *mine, "method=asymre", "method.baseline_shift=nan")
    assert wrong.returncode == 2
    assert "finite" in wrong.stderr
    wrong = progrpo("train", *mine, "method=asymre", "method.baseline_shfit=0.1")
    assert wrong.returncode == 2
    assert "did you mean 'method.baseline_shift'" in wrong.stderr
    result = progrpo.json("train", *mine, "method=asymre", "method.baseline_shift=-0.3", *TINY, OFF)
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert [record["step"] for record in metrics] == [1, 2, 3, 4]
    # r - mean(r) + 0.3 > 0 for all right samples, and for wrong ones in groups with a mean reward below 0.3.
    assert all(record["reward"] <= record["asymre/pulled_up"] <= 1 for record in metrics)
    assert all(record["grad_norm"] > 0 for record in metrics)


@pytest.mark.long
def test_the_folder_is_installed_beside_the_wheel_trains_and_sweeps_its_coefficient(
    folder: Path, tmp_path: Path
) -> None:
    """Both wheels are installed in a new environment, which takes their dependencies from that of the tests."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheels = [build_wheel(ROOT, tmp_path / "ours"), build_wheel(folder, tmp_path / "theirs")]
    subprocess.run([environment / "bin" / "pip", "install", "-q", "--no-deps", "--no-index", *wheels], check=True)
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}

    def progrpo(*arguments: str) -> str:
        command = [environment / "bin" / "progrpo", *arguments]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [environment / "bin" / "python", "-c", "import asymre, progrpo_cli; print(progrpo_cli.__file__)"]
    imported = subprocess.run(where, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True).stdout
    assert Path(imported.strip()).is_relative_to(site)
    mine = ["--config-dir", "configurations"]
    progrpo("train", *mine, "method=asymre", *TINY, OFF, "--run-dir", "runs/one")
    assert read_metrics(folder / "runs" / "one")[-1]["asymre/pulled_up"] > 0
    small = [*TINY[:3], "train.steps=2", *TINY[4:]]
    progrpo("sweep", *mine, "--space", "asymre_shift", "--seeds", "0", "--workers", "1", *small, OFF)
    with (folder / "runs" / "asymre_shift" / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert sorted(float(trial["method.baseline_shift"]) for trial in trials) == [-0.3, -0.1, 0.0]
    assert {trial["status"] for trial in trials} == {"complete"}
    progrpo("report", "runs/asymre_shift", "--format", "csv,html", "--out", "report")
    with (folder / "report" / "figures" / "asymre.csv").open() as file:
        assert {line["metric"] for line in csv.DictReader(file)} == {"asymre/pulled_up"}


def test_the_page_names_every_place_where_a_method_can_change_the_recipe() -> None:
    from progrpo_cli.methods.base import Method

    own = {name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")}
    own -= {"model_config", "model_post_init"}
    places = PAGE.partition("## What a method can change")[2]
    assert own
    assert not {name for name in own if f"`{name}`" not in places}
