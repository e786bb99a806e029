"""The contract of a launcher, on short lab runs: local processes, and jobs of a real SLURM in the long tests."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import CommandLine
from studies.invariants import check, csv_rows
from studies.slurm_cluster import SlurmCluster

from progrpo_cli.studies.launchers.make import launched, make_launcher
from progrpo_cli.studies.optuna_trials import OptunaStudy
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import parse_space
from progrpo_cli.studies.storage import open_store
from progrpo_cli.studies.trial_tables import rows, write_trials_csv

SHORT = [
    "train.prompts_per_rollout=2",
    "train.group_size=4",
    "train.save_every=2",
    "task.validation_problems=4",
    "tracking.wandb.mode=disabled",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster()
    yield cluster
    cluster.close()


def wait(condition: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def one_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of one run, frozen in the working directory."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    space = {
        "overrides": [*SHORT, "train.steps=40"],
        "parameters": {"method.arm.alpha": [0.5]},
        "seeds": [0],
        "objectives": [{"metric": "pass@32"}],
        "slurm": {"time": 10},
    }
    plan = make_plan(parse_space(space, "x"), [], Path("runs/x"))
    plan.freeze()
    return plan


@pytest.mark.parametrize("name", ["local", pytest.param("slurm", marks=pytest.mark.long)])
def test_a_launcher_starts_counts_and_stops(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "slurm":
        for key, value in request.getfixturevalue("cluster").environment.items():
            monkeypatch.setenv(key, value)
    plan = one_run(tmp_path, monkeypatch)
    store = open_store(plan.directory, None)
    optuna_study = OptunaStudy(plan, store)
    launcher = make_launcher(name, plan)
    assert launcher.alive() == 0
    launcher.start()
    assert launcher.alive() == 1
    (run,) = plan.runs_of(plan.grid[0])
    wait(run.directory.metrics_path.exists)
    launcher.stop()
    assert launcher.alive() == 0
    assert not run.directory.in_use()
    assert run.directory.status() == "interrupted"  # it was asked, and saved
    launcher.start()

    def ended() -> bool:
        launcher.wait(20 if name == "local" else 1)  # local: it sees the end
        return launcher.alive() == 0

    wait(ended)
    write_trials_csv(plan, rows(plan, store, optuna_study))
    check(tmp_path / plan.directory)
    assert csv_rows(tmp_path / plan.directory)[0]["attempts"] == "2"


def test_workers_begin_before_the_block_and_none_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(RuntimeError), launched("local", one_run(tmp_path, monkeypatch), at_once=2) as launcher:
        assert launcher.alive() == 2
        raise RuntimeError("the journal cannot be opened")
    assert launcher.alive() == 0


@pytest.mark.long
def test_a_sweep_on_slurm_ends_like_the_local_one(progrpo: CommandLine, cluster: SlurmCluster) -> None:
    """One job is cancelled, another ends by its time limit; trials.csv has the same numbers as without all that."""
    space = f"""
overrides: [{", ".join(SHORT)}, train.steps=200]
parameters: {{method.arm.alpha: [0.5, 1.0]}}
seeds: [0, 1]
objectives: [{{metric: pass@32}}]
workers: 1
slurm: {{time: 1, signal_delay_s: 5}}
"""
    (progrpo.directory / "s.yaml").write_text(space)
    study = progrpo.directory / "runs" / "s"
    command = ["sweep", "--space", "s.yaml"]
    process = progrpo.start(*command, "--launcher", "slurm", **cluster.environment)
    wait(lambda: list(study.glob("trials/*/metrics.jsonl")))
    (job,) = cluster.run("squeue", "-h", "-o", "%A").split()
    cluster.run("scancel", job)
    seen = set()

    def over() -> bool:
        seen.update(cluster.run("squeue", "-h", "-t", "all", "-o", "%A=%T").split())
        return process.poll() is not None

    wait(over, 1500)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert f"{job}=CANCELLED" in seen
    # One worker at a time, which ends by itself only when nothing is left: all between the first and the last were
    # ended by their time limit, having saved when SLURM announced it.
    assert len({state.partition("=")[0] for state in seen if int(state.partition("=")[0]) >= int(job)}) >= 3, seen
    check(study)
    local = progrpo(*command, "--study", "l")
    assert local.returncode == 0, local.stderr
    kept = ("config_hash", "seed", "method.arm.alpha", "validation/pass@1", "validation/pass@32", "status", "updates")
    numbers = [[[row[key] for key in kept] for row in csv_rows(study.parent / name)] for name in ("s", "l")]
    assert numbers[0] == numbers[1]
    assert max(int(row["attempts"]) for row in csv_rows(study)) >= 2


def test_an_option_that_slurm_does_not_have_is_one_line(progrpo: CommandLine) -> None:
    space = "parameters: {method.arm.alpha: [0.5]}\nseeds: [0]\nobjectives: [{metric: pass@32}]\n"
    (progrpo.directory / "s.yaml").write_text(f"{space}slurm: {{partitio: gpu}}\n")
    done = progrpo("sweep", "--space", "s.yaml", "--launcher", "slurm")
    assert done.returncode == 2
    assert "slurm.partitio: submitit has no such option for a space; did you mean 'partition'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert progrpo.written() == ["s.yaml"]


def test_slurm_that_is_not_there_is_one_line(progrpo: CommandLine) -> None:
    done = progrpo("sweep", "--space", "arm_alpha", "--launcher", "slurm", PATH="/nowhere")
    assert done.returncode == 2
    assert "no sbatch on this machine" in done.stderr
    assert progrpo.written() == []
