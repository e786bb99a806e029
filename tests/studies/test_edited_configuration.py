"""A sweep is frozen when it starts: editing configuration files later does not affect it."""

import re
import shutil
from pathlib import Path

import yaml
from command_line import CommandLine
from studies.invariants import check_study, csv_rows, kill_nine, workers_of
from studies.test_faults import SPACE, metrics, wait, wait_for_exit

CHECKOUT = Path(__file__).parents[2]


def edit(path: Path, pattern: str, value: str) -> None:
    text, count = re.subn(pattern, value, path.read_text(), flags=re.MULTILINE)
    assert count == 1, (path, count)
    path.write_text(text)


def test_files_edited_under_a_running_sweep(tmp_path: Path) -> None:
    """A checkout's shipped files and the space are edited; one worker starts before that and one after it."""
    for part in ("progrpo_cli", "experiments", "sweeps"):
        shutil.copytree(CHECKOUT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "small.yaml").write_text(SPACE)
    progrpo = CommandLine(tmp_path)  # `python -m` imports from the working directory first
    command = ["sweep", "--space", "small.yaml", "method=progrpo", "--workers", "1"]
    study = tmp_path / "runs" / "small"

    process = progrpo.start(*command)
    wait(lambda: metrics(study) == 1)
    frozen = (study / "study.yaml").read_bytes()
    experiments = tmp_path / "experiments"
    edit(experiments / "method" / "progrpo.yaml", r"^( *low_fraction: ).*", r"\g<1>0.9")
    edit(experiments / "task" / "countdown.yaml", r"^(max_new_tokens: ).*", r"\g<1>7")
    (tmp_path / "small.yaml").write_text(SPACE.replace("[0.5, 1.0]", "[0.5, 1.0, 2.0]"))
    wait(lambda: metrics(study) == 2)
    kill_nine(workers_of(study))  # the next worker starts after the files were edited
    code, err = wait_for_exit(process)
    assert code == 0, err

    check_study(study)
    assert (study / "study.yaml").read_bytes() == frozen
    base = yaml.safe_load(frozen)["bases"][0]["config"]
    assert base["method"]["arm"]["low_fraction"] != 0.9
    assert base["task"]["max_new_tokens"] != 7
    rows = csv_rows(study)
    assert [(row["method.arm.alpha"], row["seed"]) for row in rows] == [(a, s) for a in ("0.5", "1.0") for s in "01"]
    for row in rows:
        config = yaml.safe_load((tmp_path / row["run_dir"] / "config.yaml").read_text())
        base["method"]["arm"]["alpha"], base["seed"] = float(row["method.arm.alpha"]), int(row["seed"])
        assert config == base

    other = progrpo(*command)  # the edited files make another plan
    assert other.returncode == 2
    for difference in ("low_fraction=0.9", "max_new_tokens=7", "2.0"):
        assert difference in other.stderr
    assert (study / "study.yaml").read_bytes() == frozen
