"""Small files whose content would need endless work are refused quickly."""

import time
from pathlib import Path

import pytest

from progrpo_cli.config import plain_yaml
from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.scores_file import Scores
from progrpo_cli.evaluation.settings import samples_needed
from progrpo_cli.studies.plan import load_plan
from progrpo_cli.studies.space import parse_space

BOMBS = {
    "aliases": "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
    "itself": "a: &a [*a]",
    "a mapping in itself": "&a {b: *a}",
    "merges": "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)),
    "deep lists": "[" * 100_000,
    "deep and closed": "[" * 900 + "]" * 900,
    "deep mappings": "".join(" " * i + "a:\n" for i in range(500)),
    "a tag": "!!python/object/apply:os.system [true]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_expands_to_much_more_than_its_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.yaml").write_text(BOMBS[name])
    start = time.process_time()
    with pytest.raises(RequestError, match="not plain YAML"):
        plain_yaml.read(tmp_path / "x.yaml")
    assert time.process_time() - start < 5


def test_ordinary_anchors_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a [1, 2]\nb: *a\n")
    assert plain_yaml.read(tmp_path / "x.yaml") == {"a": [1, 2], "b": [1, 2]}
    (tmp_path / "y.yaml").write_text("")
    assert plain_yaml.read(tmp_path / "y.yaml") is None


SPACE = {"parameters": {"train.learning_rate": [0.1]}, "seeds": [0], "objectives": [{"metric": "pass@1"}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {f"method.arm.x{i}": list(range(40)) for i in range(5)}},
        {"parameters": {"train.steps": {"type": "int", "low": 1, "high": 10**9}}},
        {"parameters": {"train.learning_rate": {"type": "float", "low": 0, "high": 1, "points": 10**8}}},
        {"seeds": list(range(200_000))},
        {"k": list(range(1, 5001))},
        {"k": [2**62]},
        {"workers": 10**6},
        {"budget": {"trials": 10**9}},
    ],
)
def test_a_space_of_endless_work(changes: dict) -> None:
    start = time.process_time()
    with pytest.raises(RequestError):
        parse_space({**SPACE, **changes}, "x")
    assert time.process_time() - start < 5


def test_an_absurd_number_of_samples() -> None:
    for ks, n in (([1], 2**62), ([2**62], None), (list(range(1, 5001)), None)):
        with pytest.raises(RequestError, match="at most"):
            samples_needed(ks, n)
    with pytest.raises(RequestError):
        compose([f"train.steps={2**62}"])


def test_scores_of_endless_work() -> None:
    content = {"task": "x", "split": "test", "n": 2**62, "k": [1], "counts": [["a", 2**62, 1]]}
    content |= {"per_problem": {"problem_id": ["a"], "entropy": [None], "distinct_correct": None}}
    content |= {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 1}
    with pytest.raises(ValueError, match="n\n"):
        Scores.model_validate(content)


SHAPES = ["[]", "x", "{}", "{space: 1, storage: 2, bases: 3}", "{space: {}, storage: null, bases: [1]}"]


@pytest.mark.parametrize("text", [*SHAPES, "{space: {}, storage: [], bases: [{}]}", "\x00", "[" * 100_000])
def test_a_study_of_another_shape(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(RequestError):
        load_plan(tmp_path)
