"""Every method through the real command line."""

import math

import pytest
from command_line import TIMES, TINY, CommandLine, kill, read_metrics, wait_for

from progrpo_cli.config import paths

NAMES = paths.names(paths.EXPERIMENTS / "method")
UNTRACKED = "tracking.wandb.mode=disabled"  # these tests read only the run directory
OPTIONS = {"passk": ["method.k=2"]}  # the groups of a tiny run hold four
MEASURES = {
    "clip_cov": {"clip_cov/candidate_fraction"},
    "dapo": {"dapo/rollouts_sampled", "dapo/mixed_fraction", "dapo/unmixed_groups_kept", "rewards/length/mean"},
    "flowrl": {"flowrl/log_partition", "flowrl/residual"},
    "grpo_classic": {"kl"},
    "progrpo": {"arm/prompt_confidence", "arm/answer_confidence", "arm/gated_fraction", "arm/sign_flips"},
}
EVERY_RUN = {"reward", "entropy", "completion_length", "clip_fraction", "grad_norm", "step_seconds", "pass@1", "pass@4"}


def assert_healthy(name: str, metrics: list[dict], steps: int) -> None:
    assert [record["step"] for record in metrics] == list(range(1, steps + 1))
    for record in metrics:
        assert set(record) >= EVERY_RUN | MEASURES.get(name, set())
        assert all(value is None or math.isfinite(value) for value in record.values())
        assert 0 < record["entropy"] < math.log(21)
    # On the second update of a rollout a narrow clip like gspo's can remove the whole gradient.
    first_updates = [record["grad_norm"] > 0 for record in metrics if record["step"] % 2]
    # In a group of four with one wrong answer each subset of two has a right one, so passk has no gradient.
    assert all(first_updates) or (name == "passk" and sum(first_updates) >= len(first_updates) / 2)
    # No metric of another method is logged.
    others = {measure for other, measures in MEASURES.items() if other != name for measure in measures}
    assert not others & set(metrics[0])


def test_flowrl_trains_through_the_command_line(progrpo: CommandLine) -> None:
    result = progrpo.json("train", "method=flowrl", *TINY, UNTRACKED)
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert_healthy("flowrl", metrics, 4)
    assert metrics[0]["flowrl/log_partition"] != metrics[1]["flowrl/log_partition"]
    assert metrics[0]["clip_fraction"] == 0  # on-policy: every ratio is 1


def test_dapo_trains_through_the_command_line(progrpo: CommandLine) -> None:
    result = progrpo.json("train", "method=dapo", *TINY, UNTRACKED)
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert_healthy("dapo", metrics, 4)
    for record in metrics:
        assert 1 <= record["dapo/rollouts_sampled"] <= 10
        assert record["dapo/unmixed_groups_kept"] == 0 or record["dapo/rollouts_sampled"] == 10
    assert metrics[0]["dapo/rollouts_sampled"] > 1, "no group of the first rollout was replaced: not exercised"
    # The reward includes the length penalty; Pass@1 is the share of right samples among all that were drawn.
    assert metrics[0]["rewards/correctness/mean"] == pytest.approx(metrics[0]["pass@1"])


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_and_resumes_after_a_kill(progrpo: CommandLine, name: str) -> None:
    command = ["train", f"method={name}", *OPTIONS.get(name, []), *TINY, "train.steps=8", "--run-dir"]
    straight = progrpo(*command, "straight")
    assert straight.returncode == 0, straight.stderr
    process = progrpo.start(*command, "killed")
    lines = progrpo.directory / "killed" / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 3, process)
    kill(process)
    again = progrpo(*command, "killed", "--resume")
    assert again.returncode == 0, again.stderr
    one, other = (read_metrics(progrpo.directory / run) for run in ("straight", "killed"))
    assert_healthy(name, one, 8)
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        for key in set(a) - TIMES:
            assert a[key] == pytest.approx(b[key], abs=1e-5), (a["step"], key)


@pytest.mark.long
@pytest.mark.parametrize("name", ["dr_grpo", "gspo"])
def test_arm_on_another_method_trains_and_logs_like_progrpo(progrpo: CommandLine, name: str) -> None:
    result = progrpo.json("train", f"method={name}", "method.arm.alpha=0.5", *TINY)
    for record in read_metrics(progrpo.directory / result["run_dir"]):
        assert set(record) >= EVERY_RUN | MEASURES["progrpo"]
        assert 0 < record["arm/prompt_confidence"] < 1
