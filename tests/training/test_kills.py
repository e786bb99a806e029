"""Killed again and again, a run ends with the numbers of one that was left alone."""

import json
import random
import time
from pathlib import Path

import pytest
from command_line import TIMES, TINY, CommandLine, kill, read_metrics, wait_for

from progrpo_cli.tracking.wandb_offline import read_wandb_dir

KILLS = 10
STEPS = 100
RUN = [
    *TINY,
    f"train.steps={STEPS}",
    "train.group_size=8",
    "train.save_every=2",
    "train.eval_every=10",
    "--run-dir",
]


def killed_at_a_random_moment(
    progrpo: CommandLine, command: list[str], run: Path, rng: random.Random, while_saving: bool
) -> str:
    """Start the command on ``run``, let it make some updates, and kill it; where it was."""
    lines = run / "metrics.jsonl"
    continued = run / "checkpoints"
    process = progrpo.start(*command, run.name)
    before = newest(continued)
    wanted = before + rng.randint(0, 2) * 2
    wait_for(lambda: newest(continued) > wanted, process)
    if while_saving:
        partial = continued / ".partial"
        wait_for(lambda: any(partial.glob("checkpoint-*")), process)
        time.sleep(rng.uniform(0, 0.02))
    else:
        time.sleep(rng.uniform(0, 0.4))
    kill(process)
    half_written = [path.name for path in (continued / ".partial").glob("checkpoint-*")]
    return f"after {len(lines.read_text().splitlines())} lines, half-written: {half_written}"


def newest(checkpoints: Path) -> int:
    return max((int(path.name.partition("-")[2]) for path in checkpoints.glob("checkpoint-*")), default=0)


@pytest.mark.long
@pytest.mark.parametrize("method", ["progrpo", "flowrl"])
def test_ten_kills_change_no_number(progrpo: CommandLine, method: str) -> None:
    command = ["train", f"method={method}", *RUN]
    straight = progrpo(*command, "straight")
    assert straight.returncode == 0, straight.stderr
    rng = random.Random(f"kills-{method}")
    run = progrpo.directory / "killed"
    happened = [
        killed_at_a_random_moment(progrpo, command, run, rng, while_saving=number % 2 == 1) for number in range(KILLS)
    ]
    assert any("checkpoint-" in where for where in happened), happened  # some while a checkpoint was being written
    last = progrpo(*command, "killed")
    assert last.returncode == 0, last.stderr
    ours, theirs = (read_metrics(progrpo.directory / name) for name in ("straight", "killed"))
    assert [record["step"] for record in theirs] == list(range(1, STEPS + 1))
    for one, other in zip(ours, theirs, strict=True):
        assert set(one) == set(other)
        for key in set(one) - TIMES:
            assert one[key] == pytest.approx(other[key], abs=1e-5), (one["step"], key)
    assert "validation/pass@8" in theirs[STEPS - 1]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert len(manifest["resumed_at"]) == KILLS
    assert len(list((run / "checkpoints").glob("checkpoint-*"))) == 2
    assert not any((run / "checkpoints" / ".partial").glob("*"))
    (tracked,) = read_wandb_dir(run / "wandb")  # one run of eleven fragments
    assert tracked.id == manifest["wandb_run_id"]
    assert [row["step"] for row in tracked.history] == list(range(1, STEPS + 1))
    tables = [sorted((progrpo.directory / name / "completions").iterdir()) for name in ("straight", "killed")]
    assert [path.read_bytes() for path in tables[0]] == [path.read_bytes() for path in tables[1]]
