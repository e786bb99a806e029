"""The model of scores.json and the rule that decides which scores may be compared."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from test_changed_data import ROWS, run_evaluation, write

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.scores_file import Scores, describe_differences
from progrpo_cli.evaluation.settings import EvalSettings
from progrpo_cli.evaluation.table import comparable_base, comparison_table
from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.config import OwnConfig

PROBLEMS = [Problem("a", "1 2 3 4=10:"), Problem("b", "1 1 1 1=4:")]


def settings(*overrides: str, **changes: Any) -> EvalSettings:
    defaults: dict[str, Any] = {
        "task": compose(overrides).task,
        "split": "test",
        "n": 8,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 0,
        "backend": "hf",
        "dtype": "float32",
        "limit": None,
        "policy": "",
    }
    return EvalSettings(**{**defaults, **changes})


def scores(**changes: Any) -> Scores:
    """Scores on three problems, as an older version wrote them."""
    ids = changes.pop("ids", ["a", "b", "c"])
    n = changes.get("n", 8)
    interval = {"value": 0.5, "low": 0.2, "high": 0.8}
    return Scores.model_validate(
        {
            "task": "countdown",
            "split": "test",
            "n": n,
            "k": [1, 4],
            "counts": [[problem, n, number + 1] for number, problem in enumerate(ids)],
            "pass@4": interval,
            "pass@1": interval,
            "coverage": interval,
            "distinct_correct": interval,
            "per_problem": {"problem_id": ids, "entropy": [0.1] * len(ids), "distinct_correct": [1.0] * len(ids)},
            "temperature": 1.0,
            "top_p": 1.0,
            "max_new_tokens": 24,
            "backend": "hf",
            "dtype": "float32",
            "method": "grpo",
            "policy": "run",
            "scored_at": "2026-11-24",
            **changes,
        }
    )


def test_seed_n_limit_and_policy_are_not_part_of_the_key() -> None:
    key = settings().key(PROBLEMS, chat=False)
    for same in ({"seed": 1}, {"n": 64}, {"policy": "x"}, {"limit": 2}):
        assert settings(**same).key(PROBLEMS, chat=False) == key
    others = [settings(backend="vllm"), settings(dtype="bfloat16"), settings("task.max_new_tokens=31")]
    others += [settings(split="validation"), settings(temperature=0.5), settings(top_p=0.9)]
    keys = [item.key(PROBLEMS, chat=False) for item in others]
    keys += [settings().key(PROBLEMS, chat=True), settings().key(PROBLEMS[:1], chat=False)]
    keys.append(settings().key([Problem("a", "1 2 3 4=10 ?"), PROBLEMS[1]], chat=False))
    keys.append(settings().key([Problem("a", PROBLEMS[0].prompt, "an answer"), PROBLEMS[1]], chat=False))
    assert not any(item.comparable(key) for item in keys)
    assert len({*keys, key}) == len(keys) + 1
    assert key.measure.missing_fields() == []


def test_a_verdict_function_is_part_of_the_measure() -> None:
    own = ["task=own", "task.dataset=x.jsonl"]
    ours = settings(*own).key(PROBLEMS, chat=True)
    theirs = settings(*own, "task.verdict=mine:judge").key(PROBLEMS, chat=True)
    assert describe_differences(ours, theirs, 2, 2) == "different references"


def test_differences_are_described_in_words() -> None:
    few, many = scores(ids=["a"]), scores()
    assert describe_differences(few.key, many.key, 1, 3) == "1 against 3 problems"
    assert describe_differences(scores(ids=["x", "y", "z"]).key, many.key, 3, 3) == "different problems"
    other = scores(backend="vllm", temperature=0.7, max_new_tokens=32)
    assert describe_differences(other.key, many.key, 3, 3) == (
        "token limit 32 against 24, back end vllm against hf, temperature 0.7 against 1"
    )
    assert describe_differences(many.key, many.key, 3, 3) == ""


def test_a_missing_field_is_comparable_with_any_value() -> None:
    old = scores(backend=None, dtype=None)
    assert old.key.comparable(scores().key)
    assert old.key.comparable(scores(backend="vllm").key)
    assert not scores().key.comparable(scores(backend="vllm").key)
    assert {"backend", "dtype", "prompt", "stop_tokens", "problems"} <= set(old.key.measure.missing_fields())
    assert old.key.measure.judge_version == 1
    assert not old.key.comparable(scores(judge_version=2).key)


def test_scores_survive_a_round_trip(tmp_path: Path) -> None:
    write(tmp_path / "own.jsonl", ROWS)
    evaluation = run_evaluation(tmp_path, 2)
    text = (evaluation.directory / "scores.json").read_text()
    assert json.loads(text) == evaluation.scores.as_json()
    read = Scores.model_validate_json(text)
    assert read == evaluation.scores
    written = json.loads(text)["comparable_key"]
    assert written["sampling"] == {"temperature": 1.0, "top_p": 1.0}
    measure = {key: value for key, value in written["measure"].items() if key not in ("problem_ids", "judged_by")}
    assert measure == {
        "task": "own",
        "split": "test",
        "problems": json.loads(text)["task_version"],
        "judge_version": 2,
        "prompt": "chat",
        "max_new_tokens": 1024,
        "stop_tokens": ["end-of-sequence"],
        "backend": "hf",
        "dtype": "float32",
    }
    damaged = {**json.loads(text), "pass@1": {"value": "high"}}
    with pytest.raises(ValidationError):
        Scores.model_validate(damaged)
    (evaluation.directory / "scores.json").write_text("{")
    assert run_evaluation(tmp_path, 0).scores.counts == evaluation.scores.counts  # from the samples


@pytest.mark.parametrize("batches", [1, 2])
def test_samples_of_another_judge_version_are_refused(
    tmp_path: Path, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "own.jsonl", ROWS)
    if batches == 2:
        run_evaluation(tmp_path, 2)
    else:
        with pytest.raises(KeyboardInterrupt):
            run_evaluation(tmp_path, 1)
    before = {path: path.read_bytes() for path in tmp_path.glob("eval/*/*")}
    monkeypatch.setattr(OwnConfig, "judge_version_of_code", 3)
    with pytest.raises(RequestError, match=r"judged by version 2 .* this is version 3; --fresh") as caught:
        run_evaluation(tmp_path, 2)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.glob("eval/*/*")} == before


def write_evaluations(directory: Path, *evaluations: Scores) -> Path:
    for number, item in enumerate(evaluations):
        path = directory / "eval" / f"e{number}" / "scores.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(item.as_json()))
    return directory


def test_comparable_base_prefers_equal_n_then_the_newest(tmp_path: Path) -> None:
    run = scores()
    newest = "2026-11-30"
    base = write_evaluations(tmp_path, scores(n=64), scores(n=8, seed=5), scores(backend="vllm", scored_at=newest))
    beside, difference = comparable_base(run, base)
    assert beside is not None
    assert (beside.n, beside.backend, difference) == (8, "hf", "")
    assert comparable_base(scores(n=16), base)[0].n == 64  # type: ignore[union-attr]
    assert comparable_base(scores(ids=["a"]), base) == (None, "3 against 1 problems")
    assert comparable_base(scores(task="maths"), base) == (None, "")
    (base / "eval" / "e0" / "scores.json").write_text("{")
    assert comparable_base(run, base)[0] is not None


def test_the_difference_to_a_base_with_another_n() -> None:
    run, base = scores(n=8), scores(n=16)
    table = comparison_table(run, base)
    rows = {cells[0]: cells[1:] for cells in zip(*(list(column.cells) for column in table.columns), strict=True)}
    header = [str(column.header) for column in table.columns]
    assert header == ["", "base (n = 16)", "grpo (run)", "difference"]
    assert list(rows)[:2] == ["pass@4", "pass@1"]
    assert rows["pass@1"][2].startswith("+0.125 [")  # 2/8 of the run minus 2/16 of the base
    assert rows["coverage"][0] == rows["distinct_correct"][0] == ""  # they depend on n
    assert "assumed to be equal" in str(table.caption)
