"""A method logs the metrics that it declares."""

import pytest
import torch
import yaml

from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose
from progrpo_cli.methods.base import LossTerms
from progrpo_cli.methods.registry import label, method_classes


@pytest.mark.parametrize("name", sorted(method_classes()))
def test_a_method_logs_exactly_its_declared_metrics(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    logps = -torch.rand((4, 5), generator=random)
    terms = LossTerms(
        logps=logps.clone().requires_grad_(),
        old_logps=logps,
        mask=torch.ones(4, 5),
        advantages=torch.tensor([1.0, -1.0, 0.5, -0.5]),
        clip=(0.8, 1.28),
        reference_logps=logps,
        log_partition=torch.zeros(4),
    )
    given = yaml.safe_load((paths.EXPERIMENTS / "method" / f"{name}.yaml").read_text())
    method = method_classes()[name].model_validate(given)
    own = {metric for metric in method.metrics(terms) if "/" not in metric}  # the others replace TRL's
    assert own == set(method.logged)
    assert [metric for metric in method.contract_metrics if metric.startswith(f"{name}/")] == [
        f"{name}/{metric}" for metric in method.logged
    ]


def test_all_contract_metrics_of_arm_are_drawn() -> None:
    arm = [
        *("arm/prompt_confidence", "arm/answer_confidence", "arm/answer_confidence_correct"),
        *("arm/shift_mean", "arm/shift_std", "arm/gated_fraction", "arm/sign_flips"),
    ]
    for overrides in (["method=progrpo"], ["method=gspo", "method.arm.alpha=0.5"]):
        method = compose(overrides).method
        assert method.curves == method.contract_metrics == arm
    assert compose(["method=grpo"]).method.curves == []


def test_the_label_shows_arm_only_on_top_of_another_method() -> None:
    assert (label("progrpo", 1.0), label("gspo", 1.0), label("gspo", 0.0), label("gspo", None)) == (
        *("progrpo", "gspo+arm", "gspo", "gspo"),
    )
    assert label("mine", 0.3) == "mine+arm"
