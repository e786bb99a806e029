"""An evaluation goes on with samples of the problems that the task has now, and with no others."""

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
    """Draws the same right answer for each prompt, so many batches."""

    def __init__(self, batches: int) -> None:
        self._left = batches

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        for batch in batches:
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            yield [Sample(prompt.split()[1].strip("."), 3, True, logprob=-1.0, entropy=0.5) for prompt in batch.prompts]


def write(path: Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def evaluated(directory: Path, batches: int) -> FinishedEvaluation:
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
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with the own file and an evaluation of it."""
    write(tmp_path / "own.jsonl", ROWS)
    if request.param == "finished":
        evaluated(tmp_path, 2)
    else:
        with pytest.raises(KeyboardInterrupt):
            evaluated(tmp_path, 1)
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
def test_other_problems_are_refused_and_nothing_is_touched(begun: Path, change: str) -> None:
    write(begun / "own.jsonl", CHANGES[change](ROWS))
    before = {path: path.read_bytes() for path in begun.glob("eval/*/*")}
    with pytest.raises(RequestError, match="samples of other problems than the task has now; --fresh") as caught:
        evaluated(begun, 2)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in begun.glob("eval/*/*")} == before


def test_what_the_task_does_not_read_may_change(begun: Path) -> None:
    assert len(samples(begun)) in (SAMPLES, FIRST_BATCH)
    write(begun / "own.jsonl", [{**row, "note": "checked"} for row in ROWS])
    assert evaluated(begun, 1).scores.metrics()["pass@1"].value == 1.0
    assert len(samples(begun)) == SAMPLES


@pytest.fixture
def first_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the judge had never changed: what it judged before there were digests can still be gone on with."""
    monkeypatch.setattr(OwnConfig, "judge_version_of_code", 1)


@pytest.mark.usefixtures("first_judge")
def test_samples_of_an_earlier_version_are_known_by_their_ids(begun: Path) -> None:
    (digest,) = begun.glob("eval/*/problems.json")
    digest.unlink()
    write(begun / "own.jsonl", CHANGES["an id"](ROWS)[::-1])
    with pytest.raises(RequestError, match="--fresh"):
        evaluated(begun, 1)
    write(begun / "own.jsonl", ROWS)
    assert evaluated(begun, 1).scores.metrics()["pass@1"].value == 1.0
    assert len(samples(begun)) == SAMPLES
    assert not digest.exists()


def test_samples_on_which_the_judge_failed_are_kept_named_and_judged_again(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (begun / "eval").glob("*/samples.jsonl")
    monkeypatch.setattr(Own, "verdicts", lambda self, attempts: ["error"] * len(attempts))
    (path.parent / "scores.json").unlink(missing_ok=True)
    path.unlink()
    with pytest.raises(WorkError, match="the judge failed on"):
        evaluated(begun, 100)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["verdict"] for line in lines} == {"error"}
    assert not (path.parent / "scores.json").exists()
    monkeypatch.undo()
    assert evaluated(begun, 0).scores.verdicts["error"] == 0  # nothing is drawn again
    assert len(path.read_text().splitlines()) == len(lines)
