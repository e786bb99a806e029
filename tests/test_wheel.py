"""The wheel contains everything that the commands need, and works in a new environment."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_ships_configurations_and_the_base_policy(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for group in ("experiments", "sweeps"):
        for source in (ROOT / group).rglob("*.yaml"):
            assert f"progrpo_cli/_configurations/{source.relative_to(ROOT).as_posix()}" in names
    for source in (ROOT / "progrpo_cli").rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            assert source.relative_to(ROOT).as_posix() in names
    weights = zipfile.ZipFile(wheel).getinfo("progrpo_cli/assets/lab-base/model.safetensors")
    assert weights.file_size < 2_500_000
    assert not [name for name in names if name.startswith(("tests/", "runs/"))]


@pytest.mark.long
def test_an_installed_wheel_runs_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    pip = [environment / "bin" / "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, wheel], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def progrpo(*arguments: str) -> str:
        return subprocess.run(
            [environment / "bin" / "progrpo", *arguments],
            cwd=elsewhere,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    document = json.loads(progrpo("train", "--dry-run", "--json", "method=grpo"))
    assert document["config"]["method"]["name"] == "grpo"
    assert list(elsewhere.iterdir()) == []
    shared = json.loads(
        subprocess.run(
            [sys.executable, "-m", "progrpo_cli", "train", "--dry-run", "--json", "method=grpo"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    assert document["config_hash"] == shared["config_hash"]
    trained = json.loads(progrpo("train", "--json", "train.steps=2", "train.prompts_per_rollout=2"))
    manifest = json.loads((elsewhere / trained["run_dir"] / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["git"] == {"commit": None, "dirty": None}
