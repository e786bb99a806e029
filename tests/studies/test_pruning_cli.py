"""Pruning on a real lab study: what Optuna is told is what training measured on the validation split."""

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


def test_what_unlearns_everything_is_given_up(progrpo: CommandLine) -> None:
    (progrpo.directory / "prune.yaml").write_text(SPACE)
    result = progrpo.json("sweep", "--space", "prune.yaml")
    study = progrpo.directory / result["study_dir"]
    storage = JournalStorage(JournalFileBackend(str(study / "optuna.journal")))
    kept, given_up = optuna.load_study(study_name=study.name, storage=storage).trials
    for trial in (kept, given_up):
        measured = {
            line["step"]: line["validation/pass@4"]
            for line in read_metrics(study / "trials" / f"{trial.user_attrs['config_hash']}-s0")
            if "validation/pass@4" in line
        }
        assert trial.intermediate_values == pytest.approx(measured)
    assert (kept.state.name, given_up.state.name) == ("COMPLETE", "PRUNED")
    assert sorted(kept.intermediate_values) == [2, 4, 6]
    assert max(given_up.intermediate_values) < 6
    rows = {row["train.learning_rate"]: row for row in result["runs"]}
    assert rows[0.5]["status"] == "pruned"
    assert rows[0.5]["validation/pass@32"] is None
    assert progrpo.json("sweep", "--space", "prune.yaml")["runs"] == result["runs"]
