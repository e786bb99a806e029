"""The order in which workers take runs."""

from pathlib import Path

from studies.simulated import Study


def test_runs_with_the_most_samples_start_first(tmp_path: Path) -> None:
    study = Study(tmp_path / "runs" / "simulated", None, 1)
    plan = study.plan(parameters={"train.group_size": [4, 16, 8], "method.arm.alpha": [0.5, 1.0]}, seeds=[1, 0])
    study.work(plan)
    started = [line for line in study.executions() if not line.startswith("end ")]
    by_size = {size: [t for t in plan.grid if t.parameters["train.group_size"] == size] for size in (16, 8, 4)}
    assert started == [run.name for trials in by_size.values() for trial in trials for run in plan.runs_of(trial)]
    prompts = plan.grid[0].config.train.prompts_per_rollout
    for size, trials in by_size.items():  # four updates, two of them on each rollout
        assert {run.completions for trial in trials for run in plan.runs_of(trial)} == {2 * prompts * size}
