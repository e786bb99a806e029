"""The long tests of sweeps: twenty random kills, and a thousand trials by eight processes."""

import random
import time
from pathlib import Path

import pytest
from command_line import CommandLine
from studies.invariants import Finished, check_study, finished_runs, kill_nine, workers_of
from studies.simulated import Study, objective
from studies.test_faults import SPACE

KILLS = 20


@pytest.mark.long
def test_twenty_random_kills_over_one_sweep(progrpo: CommandLine) -> None:
    seed = random.randrange(2**32)
    print(f"seed of the kills: {seed}")
    dice = random.Random(seed)
    space = SPACE.replace("[0.5, 1.0]", "[0.0, 0.3, 0.5, 1.0, 2.0, 4.0]").replace("steps=4", "steps=30")
    (progrpo.directory / "small.yaml").write_text(space)
    study = progrpo.directory / "runs" / "small"
    command = ["sweep", "--space", "small.yaml"]
    earlier: list[Finished] = []
    process, kills = progrpo.start(*command), 0
    while kills < KILLS:
        time.sleep(dice.uniform(0.5, 12.0))
        if process.poll() is not None:  # it has stopped after too many kills, or is done already
            _, err = process.communicate()
            assert process.returncode in (0, 1), err
            process = progrpo.start(*command)
            continue
        victims = [process.pid, *workers_of(study)]
        chosen = victims if dice.random() < 0.15 else [dice.choice(victims)]
        earlier.append(finished_runs(study))
        kill_nine(chosen)
        kills += 1
        if process.pid in chosen:
            process.communicate()
            process = progrpo.start(*command)
    process.communicate(timeout=1800)
    last = progrpo(*command)
    assert last.returncode == 0, last.stderr
    print(f"{KILLS} kills, {[len(runs) for runs in earlier]} runs complete at each")
    check_study(study, earlier=earlier)


@pytest.mark.long
@pytest.mark.parametrize("study", ["journal", "postgresql"], indirect=True)
def test_a_thousand_trials_by_eight_processes(study: Study) -> None:
    plan = study.plan(
        overrides=["method=progrpo"],
        parameters={"method.arm.alpha": {"type": "float", "low": 0.0, "high": 1.0}},
        seeds=[0],
        sampler="random",
        budget={"trials": 1000},
        workers=8,
    )
    start = time.monotonic()
    workers = [study.start(0.01) for _ in range(8)]
    assert [worker.wait(timeout=1500) for worker in workers] == [0] * 8, (study.directory / "workers.log").read_text()
    seconds = time.monotonic() - start
    storage = "PostgreSQL" if study.url else "journal"
    print(f"{storage}: {1000 / seconds:.1f} trials/s, including the start-up of the workers")
    ends = [line for line in study.executions() if line.startswith("end ")]
    assert len(ends) == len(set(ends)) == 1000
    _, optuna_study = study.open(plan)
    trials = optuna_study.trials()
    assert [known.state.name for known in trials] == ["COMPLETE"] * 1000
    assert [known.values for known in trials] == [(objective(plan.runs_of(known.trial)[0]),) for known in trials]
    assert len(Path(study.directory / "trials.csv").read_text().splitlines()) == 1001
