"""docs/adding-a-method.md does what it says: its files, put into a copy of the package, are a method."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY, CommandLine, read_metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
# "`path`:" on a line of its own, and the block that follows it.
FILES = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
METHOD, CONFIGURATION, TEST = (
    "progrpo_cli/methods/asymre.py",
    "experiments/method/asymre.yaml",
    "tests/methods/test_asymre.py",
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("copy")
    for part in ("progrpo_cli", "experiments", "sweeps"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    assert set(FILES) == {METHOD, CONFIGURATION, TEST}
    for name, text in FILES.items():
        assert not (ROOT / name).exists(), "the page adds what is not there"
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
    return copy


def in_copy(package: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=package, env=environment, capture_output=True, text=True, check=False
    )


def test_the_pages_test_passes_and_its_code_is_clean(package: Path) -> None:
    done = in_copy(package, "pytest", "-q", "-p", "no:cacheprovider", TEST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    for tool in (["ruff", "check", *config], ["ruff", "format", "--check", *config]):
        done = in_copy(package, *tool, METHOD, TEST)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_method_trains(package: Path, progrpo: CommandLine) -> None:
    progrpo.environment["PYTHONPATH"] = str(package)
    listed = progrpo("list", "methods").stdout
    assert FILES[CONFIGURATION].splitlines()[0].removeprefix("# ") in listed
    wrong = progrpo("train", "method=asymre", "method.baseline_shift=nan")
    assert wrong.returncode == 2
    assert "finite" in wrong.stderr
    result = progrpo.json("train", "method=asymre", "method.baseline_shift=-0.3", *TINY, "tracking.wandb.mode=disabled")
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert [record["step"] for record in metrics] == [1, 2, 3, 4]
    # r - mean(r) + 0.3 > 0: all right samples, and the wrong ones of groups in which fewer than 0.3 are right.
    assert all(record["reward"] <= record["asymre/pulled_up"] <= 1 for record in metrics)
    assert all(record["grad_norm"] > 0 for record in metrics)


def test_the_page_names_every_place_where_a_method_can_change_the_recipe() -> None:
    from progrpo_cli.methods.base import Method

    own = {name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")}
    own -= {"model_config", "model_post_init"}
    places = PAGE.partition("## What a method can change")[2]
    assert own
    assert not {name for name in own if f"`{name}`" not in places}
