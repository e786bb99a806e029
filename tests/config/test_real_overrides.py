"""Overrides as people type them: escapes in a template, names that are not ASCII, whole sections, small numbers."""

import json
from pathlib import Path

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.errors import RequestError
from progrpo_cli.policies import policy
from progrpo_cli.studies.space import parse_space
from progrpo_cli.tasks.registry import make_task


@pytest.mark.parametrize(
    ("typed", "template"),
    [
        ('task.template="{question} Put the answer in \\\\boxed{}."', "{question} Put the answer in \\boxed{}."),
        ('task.template="{question} Put it in \\boxed{}."', "{question} Put it in \\boxed{}."),
        ('task.template="{question}\\n\\nAnswer:"', "{question}\n\nAnswer:"),
        ('task.template="{question}\\\\n"', "{question}\\n"),
    ],
)
def test_escapes_in_a_template(typed: str, template: str) -> None:
    assert compose(["task=own", typed]).task.template == template


def test_a_shipped_template_is_not_unescaped() -> None:
    assert "\\boxed{}" in compose(["task=math500", "task.max_new_tokens=9"]).task.template


@pytest.mark.parametrize("task", ["own", "math500", "mmlu_pro", "humaneval", "reasoning_gym"])
def test_a_template_without_the_question_is_refused(task: str) -> None:
    with pytest.raises(RequestError, match=r"task.template.*\{question\} is missing"):
        compose([f"task={task}", "task.template=hello"])


def test_names_that_are_not_ascii() -> None:
    assert compose([f"model.path={json.dumps('./modèle', ensure_ascii=False)}"]).model.path == "./modèle"
    with pytest.raises(RequestError, match=r"quote values that are not ASCII: 'model.path=\"modèle\"'"):
        compose(["model.path=modèle"])


def test_a_whole_section() -> None:
    config = compose(["train.rewards={format: 0.1}"])
    assert config.train.rewards.format == 0.1
    assert config_hash(config) == config_hash(compose(["train.rewards.format=0.1"]))
    assert compose(["model.lora={rank: 4}"]).model.lora.rank == 4
    with pytest.raises(RequestError, match=r"unknown key 'train.rewards.formt'; did you mean 'train.rewards.format'"):
        compose(["train.rewards={formt: 0.1}"])


@pytest.mark.parametrize("values", [["1e-6", "1e-5"], ["1E-6", "1.5e-5"], [1.0e-6, 1.0e-5]])
def test_small_numbers_of_a_space_are_numbers(values: list) -> None:
    content = {"parameters": {"train.learning_rate": values}, "seeds": [0], "objectives": [{"metric": "pass@1"}]}
    space = parse_space(content, "mine")
    numbers = {**content, "parameters": {"train.learning_rate": [float(value) for value in values]}}
    assert space == parse_space(numbers, "mine")


def test_a_lone_surrogate_in_a_prompt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "1+1", "answer": "2"}\n{"prompt": "a \\ud800 b", "answer": "2"}\n')
    with pytest.raises(RequestError, match=r"line 2: half a character \(U\+D800\)"):
        make_task(compose(["task=own", f"task.dataset={path}"]).task).problems("test")


@pytest.mark.parametrize("target", ["runs/nope", "./nope", "there/nope"])
def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_name(target: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "note").mkdir(parents=True)
    with pytest.raises(RequestError, match=f"there is no directory {target}"):
        policy.resolve(target)
    assert policy.resolve("owner/name").directory is None
