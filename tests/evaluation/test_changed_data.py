"""An evaluation continues only with samples of the problems that the task has now."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.evaluation.run import FinishedEvaluation, evaluate
from progrpo_cli.evaluation.settings import EvalSettings
from progrpo_cli.sampling.base import Batch, Sample
from progrpo_cli.tasks.config import OwnConfig
from progrpo_cli.tasks.own import Own

ROWS = [{"id": i, "prompt": f"Say {i:02}.", "answer": f"{i:02}", "note": ""} for i in range(20)]
SAMPLES = 8 * len(ROWS)
FIRST_BATCH = 128


class Repeating:
    """A sampler that draws the correct answer for a number of batches and is then interrupted."""

    def __init__(self, batches: int) -> None:
        self._remaining = batches

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        for batch in batches:
            if not self._remaining:
                raise KeyboardInterrupt
            self._remaining -= 1
            yield [Sample(prompt.split()[1].strip("."), 3, True, logprob=-1.0, entropy=0.5) for prompt in batch.prompts]


def write(path: Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_evaluation(directory: Path, batches: int) -> FinishedEvaluation:
    changes = ["task.shares.rl=0", "task.shares.validation=0", "task.shares.test=100", "task.fields.id=id"]
    task = compose(["task=own", f"task.dataset={directory / 'own.jsonl'}", *changes]).task
    settings = EvalSettings(
        task=task,
        split="test",
        n=8,
        temperature=1.0,
        top_p=1.0,
        seed=0,
        backend="hf",
        dtype="float32",
        limit=None,
        policy="",
    )
    return evaluate(
        directory / "eval", settings, [1], make_sampler=lambda _: Repeating(batches), policy_fields={}, title="a test"
    )


@pytest.fixture(params=["finished", "half-done"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with a file of problems and an evaluation of it."""
    write(tmp_path / "own.jsonl", ROWS)
    if request.param == "finished":
        run_evaluation(tmp_path, 2)
    else:
        with pytest.raises(KeyboardInterrupt):
            run_evaluation(tmp_path, 1)
    return tmp_path


def samples(directory: Path) -> list[str]:
    (path,) = directory.glob("eval/*/samples.jsonl")
    return path.read_text().splitlines()


CHANGES: dict[str, Callable[[list[dict]], list[dict]]] = {
    "an answer": lambda rows: [{**rows[0], "answer": "100"}, *rows[1:]],
    "a prompt": lambda rows: [*rows[:-1], {**rows[-1], "prompt": "Say 77."}],
    "an id": lambda rows: [*rows[:-1], {**rows[-1], "id": 77}],
    "a line less": lambda rows: rows[1:],
    "a line more": lambda rows: [*rows, {"id": 77, "prompt": "Say 77.", "answer": "77"}],
    "all lines": lambda rows: [{**row, "id": row["id"] + 100, "prompt": row["prompt"] + "!"} for row in rows],
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_problems_are_refused_without_changing_files(started: Path, change: str) -> None:
    write(started / "own.jsonl", CHANGES[change](ROWS))
    before = {path: path.read_bytes() for path in started.glob("eval/*/*")}
    with pytest.raises(RequestError, match="samples of other problems than the task has now; --fresh") as caught:
        run_evaluation(started, 2)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in started.glob("eval/*/*")} == before


def test_fields_that_the_task_does_not_read_may_change(started: Path) -> None:
    assert len(samples(started)) in (SAMPLES, FIRST_BATCH)
    write(started / "own.jsonl", [{**row, "note": "checked"} for row in ROWS])
    assert run_evaluation(started, 1).scores.metrics()["pass@1"].value == 1.0
    assert len(samples(started)) == SAMPLES


@pytest.fixture
def first_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the judge's version to 1, so that samples without a recorded version can be continued."""
    monkeypatch.setattr(OwnConfig, "judge_version_of_code", 1)


@pytest.mark.usefixtures("first_judge")
def test_samples_without_a_digest_are_identified_by_their_ids(started: Path) -> None:
    (digest,) = started.glob("eval/*/problems.json")
    digest.unlink()
    write(started / "own.jsonl", CHANGES["an id"](ROWS)[::-1])
    with pytest.raises(RequestError, match="--fresh"):
        run_evaluation(started, 1)
    write(started / "own.jsonl", ROWS)
    assert run_evaluation(started, 1).scores.metrics()["pass@1"].value == 1.0
    assert len(samples(started)) == SAMPLES
    assert not digest.exists()


def test_samples_on_which_the_judge_failed_are_kept_and_judged_again(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (started / "eval").glob("*/samples.jsonl")
    monkeypatch.setattr(Own, "verdicts", lambda self, attempts: ["error"] * len(attempts))
    (path.parent / "scores.json").unlink(missing_ok=True)
    path.unlink()
    with pytest.raises(WorkError, match="the judge failed on"):
        run_evaluation(started, 100)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["verdict"] for line in lines} == {"error"}
    assert not (path.parent / "scores.json").exists()
    monkeypatch.undo()
    assert run_evaluation(started, 0).scores.verdicts["error"] == 0  # no sample is drawn again
    assert len(path.read_text().splitlines()) == len(lines)
