"""A worker reads a trial from a database, table by table, while another worker draws it."""

from typing import Any

import pytest
from optuna.trial import FrozenTrial
from studies.simulated import Study

PARAMETERS = {
    "method": {"type": "categorical", "choices": ["grpo", "progrpo"]},
    "method.clip_high": {"type": "float", "low": 0.2, "high": 0.4},
}


@pytest.mark.parametrize("parameters", [PARAMETERS, {"method.clip_high": PARAMETERS["method.clip_high"]}])
def test_a_trial_that_was_read_without_its_parameters_is_read_again(
    study: Study, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]
) -> None:
    """The order in which Optuna reads tables differs between processes, so its result is simulated.

    Without parameters, the trial would have the default configuration, or be invalid if the method is a parameter.
    """
    plan = study.plan(overrides=[], parameters=parameters, sampler="random", budget={"trials": 3})
    _, drawing = study.open(plan)
    _, reading = study.open(plan)
    assert drawing.propose()
    (drawn,) = drawing.trials()
    assert drawn.trial.parameters.keys() == parameters.keys()
    get_trials = reading._study.get_trials

    def get_trials_without_parameters(deepcopy: bool = True) -> list[FrozenTrial]:
        trials = get_trials(deepcopy=True)
        for trial in trials:
            trial.params, trial.distributions = {}, {}
        return trials

    monkeypatch.setattr(reading._study, "get_trials", get_trials_without_parameters)
    (known,) = reading.trials()
    assert known.trial == drawn.trial
    assert known.trial.config_hash == known.attributes["config_hash"]
