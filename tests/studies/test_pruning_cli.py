"""Pruning in a real lab study, by the Pass@k that training measures on the validation split."""

import optuna
import pytest
from command_line import CommandLine, read_metrics
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

SPACE = """
overrides:
  - train.steps=6
  - train.eval_every=2
  - train.prompts_per_rollout=2
  - train.group_size=4
  - task.validation_problems=6
  - tracking.wandb.mode=disabled
parameters: {train.learning_rate: [1.0e-5, 0.5]}
seeds: [0]
objectives: [{metric: pass@32}]
pruner: {name: median, startup_trials: 1}
workers: 1
"""


def test_a_trial_that_diverges_is_pruned(progrpo: CommandLine) -> None:
    (progrpo.directory / "prune.yaml").write_text(SPACE)
    result = progrpo.json("sweep", "--space", "prune.yaml")
    study = progrpo.directory / result["study_dir"]
    storage = JournalStorage(JournalFileBackend(str(study / "optuna.journal")))
    complete, pruned = optuna.load_study(study_name=study.name, storage=storage).trials
    for trial in (complete, pruned):
        measured = {
            line["step"]: line["validation/pass@4"]
            for line in read_metrics(study / "trials" / f"{trial.user_attrs['config_hash']}-s0")
            if "validation/pass@4" in line
        }
        assert trial.intermediate_values == pytest.approx(measured)
    assert (complete.state.name, pruned.state.name) == ("COMPLETE", "PRUNED")
    assert sorted(complete.intermediate_values) == [2, 4, 6]
    assert max(pruned.intermediate_values) < 6
    rows = {row["train.learning_rate"]: row for row in result["runs"]}
    assert rows[0.5]["status"] == "pruned"
    assert rows[0.5]["validation/pass@32"] is None
    assert progrpo.json("sweep", "--space", "prune.yaml")["runs"] == result["runs"]
