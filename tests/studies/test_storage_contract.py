"""The contract of storages: a journal file, a real PostgreSQL and SQLite. Training is simulated."""

import os
import signal
import time
from typing import Any

import pytest
from studies.simulated import SPACE, Study, log_line, objective, result, simulate

from progrpo_cli.errors import RequestError
from progrpo_cli.studies.open import read_stored_plan
from progrpo_cli.studies.optuna_trials import OptunaStudy
from progrpo_cli.studies.plan import Plan, Run, load_plan
from progrpo_cli.studies.reconcile import reconcile
from progrpo_cli.studies.storage import open_store
from progrpo_cli.studies.trial_tables import run_rows, trial_table, verdict
from progrpo_cli.studies.worker import Watch


def states(optuna_study: OptunaStudy) -> list[str]:
    return [known.state.name for known in optuna_study.trials()]


def test_workers_do_every_run_once(study: Study) -> None:
    plan = study.plan()
    workers = [study.start(0.05) for _ in range(study.workers)]  # all of them start on an empty storage
    assert {worker.wait(timeout=120) for worker in workers} == {0}, (study.directory / "workers.log").read_text()
    names = [run.name for trial in plan.grid for run in plan.runs_of(trial)]
    assert sorted(study.executions()) == sorted([*names, *(f"end {name}" for name in names)])
    store, optuna_study = study.open(plan)
    assert states(optuna_study) == ["COMPLETE"] * 3
    rows = run_rows(plan, store, optuna_study)
    assert [row["status"] for row in rows] == ["complete"] * 6
    assert {row["attempts"] for row in rows} == {1}
    for known in optuna_study.trials():
        runs = plan.runs_of(known.trial)
        assert known.values == (pytest.approx(sum(objective(run) for run in runs) / 2),)
        low, high = known.attributes["interval/pass@32"]
        assert low < known.values[0] < high
        assert known.attributes["config_hash"] == known.trial.config_hash
        assert known.attributes["run/1"] == {"directory": str(runs[1].directory.path), "wandb_run_id": "none"}
    table = trial_table(plan, store, optuna_study)
    assert [row["parameters"]["method.arm.alpha"] for row in table] == [0.5, 0.0, 1.0]
    assert "the next: pass@32 +0.025" in (verdict(plan, store, table) or "")
    assert "within noise of the next: pass@32 +0.000" in (verdict(plan, store, table[1:]) or "")
    assert (study.directory / "trials.csv").read_text().count("complete") == 6


def test_parameters_keep_their_types_in_optuna(study: Study) -> None:
    plan = study.plan(
        parameters={
            "train.group_size": {"type": "int", "low": 4, "high": 8, "step": 4},
            "method.arm.alpha": {"type": "log-float", "low": 0.5, "high": 2.0, "points": 3},
            "method.arm.gate": {"type": "categorical", "choices": ["any_correct", "mixed"]},
        },
        seeds=[0],
    )
    store, optuna_study = study.open(plan)
    assert len(optuna_study.trials()) == 12
    import optuna

    study_id = store.trials.get_study_id_from_name(plan.name)
    params = [trial.params for trial in store.trials.get_all_trials(study_id)]
    assert {type(p["train.group_size"]) for p in params} == {int}
    assert sorted({p["method.arm.alpha"] for p in params}) == [0.5, 1.0, 2.0]
    distributions = store.trials.get_all_trials(study_id)[0].distributions
    assert distributions["method.arm.alpha"] == optuna.distributions.FloatDistribution(0.5, 2.0)
    assert {p["method.arm.gate"] for p in params} == {"any_correct", "mixed"}


def test_the_run_of_a_killed_worker_is_completed_by_the_next_worker(study: Study) -> None:
    plan = study.plan(seeds=[0])
    worker = study.start(60)
    deadline = time.monotonic() + 60
    while not study.executions():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    store, optuna_study = study.open(plan)
    assert states(optuna_study) == ["RUNNING", "WAITING", "WAITING"]
    assert [row["status"] for row in run_rows(plan, store, optuna_study)] == ["interrupted", "planned", "planned"]
    reconcile(plan, store, optuna_study)
    assert states(optuna_study) == ["WAITING"] * 3
    study.work(plan)  # this worker does not wait for the lease of a dead worker on the same machine
    assert states(optuna_study) == ["COMPLETE"] * 3
    assert [row["attempts"] for row in run_rows(plan, store, optuna_study)] == [2, 1, 1]


def test_a_failed_run_is_retried_and_keeps_its_reason(study: Study) -> None:
    plan = study.plan()  # retries: 2
    bad = plan.runs_of(plan.grid[1])[0].name

    def execute(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        if run.name == bad:
            log_line(plan, run.name)
            watch({"step": 3, "loss": float("nan")})
        return simulate(plan, run, watch)

    for tries in (2, 3, 3):  # two tries by each start of the command, three in total
        study.work(plan, execute)
        assert study.executions().count(bad) == tries
    store, optuna_study = study.open(plan)
    assert states(optuna_study) == ["COMPLETE", "FAIL", "COMPLETE"]
    row = next(row for row in run_rows(plan, store, optuna_study) if row["status"] == "failed")
    assert row["error"] == "NotANumber: loss is nan at update 3"
    assert row["attempts"] == 3
    assert optuna_study.trials()[1].attributes["failed"] == row["error"]
    others = [name for name in study.executions() if not name.startswith("end ") and name != bad]
    assert len(others) == len(set(others)) == 5  # including the other seed of the failed trial
    store.ledger.reset_failures([bad])
    optuna_study.retry(optuna_study.trials()[1])
    study.work(plan)
    assert states(optuna_study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert {row["status"] for row in run_rows(plan, store, optuna_study)} == {"complete"}
    assert study.executions().count(bad) == 4


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sampler_draws_its_budget_and_no_more(study: Study, sampler: str) -> None:
    parameters = {
        "method": {"type": "categorical", "choices": ["grpo", "progrpo"]},
        "method.arm.alpha": {"type": "log-float", "low": 0.05, "high": 4.0, "when": {"method": "progrpo"}},
        "train.temperature": {"type": "float", "low": 0.5, "high": 1.5},
    }
    changes = {
        "overrides": [],
        "parameters": parameters,
        "temperature": 1.0,
        "seeds": [0],
        "sampler": {"name": sampler, "startup_trials": 3},
    }
    plan = study.plan(**changes, budget={"trials": 8})
    store, optuna_study = study.open(plan)
    store.trials.create_new_trial(store.trials.get_study_id_from_name(plan.name))  # as if a process died while drawing
    study.work(plan)
    assert states(optuna_study) == ["COMPLETE"] * 8
    assert len(study.executions()) == 16
    study.work(plan)
    assert len(study.executions()) == 16
    for known in optuna_study.trials():
        assert ("method.arm.alpha" in known.trial.parameters) == (known.trial.parameters["method"] == "progrpo")
    assert len({known.trial.config_hash for known in optuna_study.trials()}) == 8
    everything = store.trials.get_all_trials(store.trials.get_study_id_from_name(plan.name))
    assert {trial.state.name for trial in everything} == {"COMPLETE", "FAIL"}


def test_nsga2_keeps_both_objectives_and_marks_the_front(study: Study) -> None:
    plan = study.plan(
        overrides=["method=progrpo"],
        parameters={"method.arm.alpha": {"type": "float", "low": 0.0, "high": 1.0}},
        objectives=[{"metric": "pass@1"}, {"metric": "pass@32"}],
        sampler={"name": "nsga2", "population": 4},
        budget={"trials": 8},
        seeds=[0],
    )

    def execute(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        alpha = float(run.trial.parameters["method.arm.alpha"])
        return result({"pass@1": 1 - alpha, "pass@32": alpha})

    study.work(plan, execute)
    store, optuna_study = study.open(plan)
    table = trial_table(plan, store, optuna_study)
    assert len(table) == 8
    assert all(row["front"] for row in table)  # no trial is better in both objectives
    assert table[0]["objectives"]["pass@1"] == max(row["objectives"]["pass@1"] for row in table)


def test_pruning_compares_the_same_seeds_at_the_same_update(study: Study) -> None:
    plan = study.plan(
        parameters={"method.arm.alpha": [0.5, 0.6, 0.7, 1.0, 4.0]},
        pruner={"name": "median", "startup_trials": 3},
        retries=0,
    )
    reached = []

    def execute(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        for step in (2, 4):
            reached.append((run.trial.parameters["method.arm.alpha"], run.seed, step))
            # Seed 0 is lucky: by this seed alone, the last trial would not be pruned.
            lucky = 5.0 if run.seed == 0 else 0.0
            watch({"step": step, "loss": 0.1, "validation/pass@16": objective(run) + lucky})
        return simulate(plan, run, watch)

    study.work(plan, execute)
    store, optuna_study = study.open(plan)
    assert states(optuna_study) == ["COMPLETE"] * 3 + ["PRUNED"] * 2
    assert (4.0, 0, 4) in reached  # its first seed ran to the end
    assert (4.0, 1, 2) in reached  # its second seed was pruned
    assert (4.0, 1, 4) not in reached
    assert "over its first 2 seeds" in optuna_study.trials()[-1].attributes["pruned"]
    statuses = {(row["method.arm.alpha"], row["seed"]): row["status"] for row in run_rows(plan, store, optuna_study)}
    assert statuses[4.0, 1] == "pruned"
    assert statuses[4.0, 0] == "complete"
    study.work(plan, execute)
    assert reached.count((4.0, 1, 2)) == 1  # a pruned trial is not tried again


def test_trials_of_different_length_are_compared_at_the_same_seeds_and_update(study: Study) -> None:
    plan = study.plan(
        overrides=["method=progrpo", "train.eval_every=2"],
        parameters={"train.steps": [2, 4]},
        pruner={"name": "median", "min_seeds": 1},
    )

    def execute(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        for step in range(2, run.config.train.steps + 1, 2):
            watch({"step": step, "loss": 0.1, "validation/pass@16": 0.5})
        return simulate(plan, run, watch)

    study.work(plan, execute)
    store, _ = study.open(plan)
    short, long = store.trials.get_all_trials(store.trials.get_study_id_from_name(plan.name))
    assert sorted(long.intermediate_values) == [2, 4, 4 + 2, 4 + 4]
    assert sorted(short.intermediate_values) == [2, 4 + 2]


def test_another_plan_under_the_same_name_is_refused(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    study.open(study.plan())
    other = load_plan(study.directory).space.model_dump(mode="json") | {"seeds": [0, 1, 2]}
    with pytest.raises(RequestError, match="- 2"):
        study.plan(**{key: other[key] for key in SPACE})


def test_another_machine_reads_the_plan_from_the_storage(study: Study) -> None:
    plan = study.plan()
    store, _ = study.open(plan)
    stored = read_stored_plan(store, study.directory)
    assert stored is not None
    assert stored.frozen() == plan.frozen()
    assert read_stored_plan(open_store(study.directory, study.url), study.directory.parent / "other") is None
