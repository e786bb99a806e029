"""A worker that reads a trial from a database, table by table, while another one draws it."""

from typing import Any

import pytest
from optuna.trial import FrozenTrial
from studies.simulated import Study

PARAMETERS = {
    "method": {"type": "categorical", "choices": ["grpo", "progrpo"]},
    "method.clip_high": {"type": "float", "low": 0.2, "high": 0.4},
}


@pytest.mark.parametrize("parameters", [PARAMETERS, {"method.clip_high": PARAMETERS["method.clip_high"]}])
def test_a_trial_whose_parameters_were_read_too_early_has_its_own_all_the_same(
    study: Study, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]
) -> None:
    """Optuna's order of reading differs between processes, so what it hands over is made here; the rest is real.

    Without parameters a trial would be that of the defaults, or none at all where the method is one of them.
    """
    plan = study.plan(overrides=[], parameters=parameters, sampler="random", budget={"trials": 3})
    _, drawing = study.open(plan)
    _, reading = study.open(plan)
    assert drawing.propose()
    (drawn,) = drawing.trials()
    assert drawn.trial.parameters.keys() == parameters.keys()
    read = reading._study.get_trials

    def too_early(deepcopy: bool = True) -> list[FrozenTrial]:
        found = read(deepcopy=True)
        for trial in found:
            trial.params, trial.distributions = {}, {}
        return found

    monkeypatch.setattr(reading._study, "get_trials", too_early)
    (known,) = reading.trials()
    assert known.trial == drawn.trial
    assert known.trial.config_hash == known.attributes["config_hash"]
