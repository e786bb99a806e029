"""Results of a study that were measured differently are not compared."""

from pathlib import Path
from typing import Any

from studies.simulated import Study, result

from progrpo_cli.evaluation.scores_file import ComparableKey, Measure, Sampling
from progrpo_cli.studies.comparable import comparable_groups, differences_between
from progrpo_cli.studies.plan import Plan, Run
from progrpo_cli.studies.trial_tables import trial_table, verdict
from progrpo_cli.studies.worker import Watch


def measured(*, temperature: float = 1.0, **changes: Any) -> dict[str, Any]:
    measure = {"task": "countdown", "split": "validation", "problem_ids": "a", "max_new_tokens": 24, **changes}
    key = ComparableKey(measure=Measure.model_validate(measure), sampling=Sampling(temperature=temperature, top_p=1.0))
    return {**result({"pass@32": 0.5}), "comparable_key": key.model_dump(mode="json")}


def test_differences_between_results() -> None:
    same, old = measured(backend="hf"), result({"pass@32": 0.5})
    assert differences_between([same, measured(backend="hf"), measured(), old]) == ""
    assert differences_between([same], [measured(backend="vllm")]) == "back end vllm against hf"
    assert differences_between([same], [measured(temperature=0.7)]) == "temperature 0.7 against 1"
    assert differences_between([same, measured(judge_version=2)]) == "judge version 2 against 1"
    assert comparable_groups({"a": [same], "b": [measured(temperature=0.7)], "c": [same]}) == [["a", "c"], ["b"]]


def test_trials_with_other_data_are_not_compared(tmp_path: Path) -> None:
    """The task's file is edited while the sweep runs."""
    study = Study(tmp_path / "study", None, 1)
    plan = study.plan(parameters={"method.arm.alpha": [0.0, 1.0, 2.0]}, seeds=[0, 1])

    def execute(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        alpha = run.trial.parameters["method.arm.alpha"]
        edited = alpha == 2.0 or (alpha == 1.0 and run.seed == 1)
        return {**measured(problems="new" if edited else "old"), **result({"pass@32": 0.5 + float(alpha) / 10})}

    study.work(plan, execute)
    store, optuna_study = study.open(plan)
    states = {known.trial.parameters["method.arm.alpha"]: known for known in optuna_study.trials()}
    assert [known.state.name for known in states.values()] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert states[1.0].attributes["failed"] == "its seeds were measured differently: different prompts"
    table = trial_table(plan, store, optuna_study)
    assert [row["parameters"]["method.arm.alpha"] for row in table] == [2.0, 0.0]
    assert [row["front"] for row in table] == [True, True]
    text = verdict(plan, store, table)
    assert text is not None
    assert text.startswith(
        "the best trial and the next were measured differently and cannot be compared: different prompts"
    )
