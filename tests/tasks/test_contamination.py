"""Held-out problems whose question is also a training problem."""

import json
import logging

import pytest
from command_line import CommandLine

from progrpo_cli.config.compose import compose
from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.contamination import count_seen, fingerprints
from progrpo_cli.tasks.registry import make_task


def marks(task: str, *prompts: str) -> list[str]:
    return fingerprints([Problem(str(i), prompt) for i, prompt in enumerate(prompts)], compose([f"task={task}"]).task)


def test_questions_are_compared_without_case_spaces_and_compatible_characters() -> None:
    one, two, three, other = marks("countdown", "What is 2+2?", "  what\n is  2+2? ", "What is ２+２?", "What is 22?")
    assert one == two == three != other


def test_a_space_between_two_numbers_matters() -> None:
    """The lab's prompts ``1 23=4:`` and ``12 3=4:`` are different problems."""
    one, two = marks("countdown", "1 23=4:", "12 3=4:")
    assert one != two


def test_the_template_is_not_part_of_the_question() -> None:
    template = compose(["task=math500"]).task.template
    assert template != "{question}"
    wrapped = marks("math500", template.replace("{question}", "What is 2+2?"))
    assert wrapped == marks("own", "What is 2+2?") == marks("countdown", "What is 2+2?")


def test_the_labs_splits_share_no_question(caplog: pytest.LogCaptureFixture) -> None:
    config = compose([]).task
    task = make_task(config)
    trained_on = fingerprints(task.problems("rl"), config)
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        assert count_seen(task.problems("test"), config, trained_on, split="test") == 0
    assert not caplog.records


@pytest.fixture(scope="module")
def contaminated(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A task of the user's own with two questions of the test split that are in the training split, too."""
    from progrpo_cli.tasks.splits import split_by_hash

    shares = {"rl": 50, "validation": 10, "test": 40}
    progrpo = CommandLine(tmp_path_factory.mktemp("contaminated"))
    questions = [f"{a} 1 1 1={a}:" for a in range(1, 13)]
    splits = [split_by_hash(f"mine:p{i}", shares) for i in range(len(questions))]
    held_out = [i for i, split in enumerate(splits) if split == "test"][:2]
    training = [i for i, split in enumerate(splits) if split == "rl"][:2]
    for copy, original in zip(training, held_out, strict=True):
        questions[copy] = questions[original].replace(" ", "  ")
    lines = [{"prompt": q, "answer": "1", "id": f"p{i}"} for i, q in enumerate(questions)]
    (progrpo.directory / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return progrpo


OWN = ["task=own", "task.dataset=mine.jsonl", "task.name=mine", "task.fields.id=id", "task.chat=false"]
OWN += ["task.max_new_tokens=8"]
OWN += ["task.shares.rl=50", "task.shares.validation=10", "task.shares.test=40"]
TINY = ["train.steps=2", "train.prompts_per_rollout=2", "train.group_size=2", "--run-dir", "run"]


def test_train_and_eval_warn_with_the_count(contaminated: CommandLine) -> None:
    trained = contaminated("train", *OWN, *TINY)
    assert trained.returncode == 0, trained.stderr
    assert "2 of" in trained.stderr, trained.stderr
    assert "test problems of mine are among the training problems" in trained.stderr
    fingerprint_file = json.loads((contaminated.directory / "run" / "trained_on.json").read_text())
    assert fingerprint_file["task"] == "mine"
    evaluated = contaminated("eval", "run", "--k", "1", "--n", "2", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "test problems of mine are among the training problems" in evaluated.stderr
    assert json.loads(evaluated.stdout)["seen_in_training"] == 2
