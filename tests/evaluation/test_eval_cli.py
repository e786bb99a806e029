"""Evaluation through the command line, with its numbers checked against samples.jsonl."""

import itertools
import json
import shutil
import signal
from pathlib import Path

import pytest
from command_line import TINY, CommandLine, kill, wait_for

from progrpo_cli.config.compose import compose
from progrpo_cli.tasks.base import VERDICTS
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.tracking.wandb_offline import read_wandb_dir

INTERVALS = ["pass@1", "pass@4", "entropy", "distinct_correct", "response_length", "coverage"]


def read_samples(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluated(
    trained: tuple[CommandLine, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[CommandLine, dict]:
    command = CommandLine(tmp_path_factory.mktemp("evaluated"))
    shutil.copytree(trained[1]["grpo"], command.directory / "runs" / "only")
    return command, command.json("eval", "--k", "1,4")  # no TARGET: the newest finished run


def test_scores_and_samples_have_the_documented_fields(evaluated: tuple[CommandLine, dict]) -> None:
    command, scores = evaluated
    directory = command.directory / scores["eval_dir"]
    assert directory.parent == command.directory / "runs" / "only" / "eval"
    assert directory.name.startswith("countdown-")
    assert json.loads((directory / "scores.json").read_text()) == scores
    assert (scores["task"], scores["split"], scores["n"], scores["k"], scores["problems"]) == (
        "countdown",
        "test",
        8,
        [1, 4],
        6,
    )
    expected = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 30, "backend": "hf", "seed": 0}
    assert {key: scores[key] for key in expected} == expected
    assert set(scores["verdicts"]) == set(VERDICTS)
    for metric in INTERVALS:
        assert scores[metric]["low"] <= scores[metric]["value"] <= scores[metric]["high"]
    samples = read_samples(directory)
    assert len(samples) == 48
    assert {(s["problem_id"], s["sample_index"]) for s in samples} == {
        (row[0], index) for row in scores["counts"] for index in range(8)
    }
    assert set(samples[0]) == {"problem_id", "sample_index", "text", "verdict", "tokens", "entropy", "logprob"}


def test_the_scores_follow_from_the_samples(evaluated: tuple[CommandLine, dict]) -> None:
    command, scores = evaluated
    samples = read_samples(command.directory / scores["eval_dir"])
    task = make_task(compose(TINY).task)
    problems = task.problems("test")
    assert [row[0] for row in scores["counts"]] == [problem.id for problem in problems]
    pass_at_4, distinct = [], []
    for problem, (_, n, correct) in zip(problems, scores["counts"], strict=True):
        problem_samples = [s for s in samples if s["problem_id"] == problem.id]
        right = [s for s in problem_samples if s["verdict"] == "correct"]
        assert (len(problem_samples), len(right)) == (n, correct)
        subsets = list(itertools.combinations(range(n), 4))
        rights = {index for index, s in enumerate(problem_samples) if s["verdict"] == "correct"}
        pass_at_4.append(sum(bool(rights & set(subset)) for subset in subsets) / len(subsets))
        distinct.append(len({task.canonical(problem, s["text"]) for s in right}))
    assert scores["pass@1"]["value"] == pytest.approx(sum(row[2] for row in scores["counts"]) / len(samples))
    assert scores["pass@4"]["value"] == pytest.approx(sum(pass_at_4) / len(pass_at_4))
    assert scores["distinct_correct"]["value"] == pytest.approx(sum(distinct) / len(distinct))
    assert scores["entropy"]["value"] == pytest.approx(sum(s["entropy"] for s in samples) / len(samples))
    verdict_counts = {verdict: sum(s["verdict"] == verdict for s in samples) for verdict in VERDICTS}
    assert scores["verdicts"] == verdict_counts


def test_scores_and_counts_go_to_the_runs_wandb(evaluated: tuple[CommandLine, dict]) -> None:
    command, scores = evaluated
    (tracked,) = read_wandb_dir(command.directory / "runs" / "only" / "wandb")
    name = Path(scores["eval_dir"]).name
    assert json.loads(tracked.summary[f"scores/{name}"])["counts"] == scores["counts"]
    assert len(tracked.history) == 4  # the history of training is unchanged


def test_a_second_evaluation_draws_nothing_and_adds_k(evaluated: tuple[CommandLine, dict], tmp_path: Path) -> None:
    command, scores = evaluated
    samples = command.directory / scores["eval_dir"] / "samples.jsonl"
    before = samples.stat().st_mtime_ns
    again = command.json("eval", "runs/only", "--k", "2", "--n", "8")
    assert samples.stat().st_mtime_ns == before
    assert again["k"] == [1, 2, 4]
    assert again["pass@1"] == scores["pass@1"]


def test_training_problems_are_evaluated_on_request_in_their_own_directory(
    evaluated: tuple[CommandLine, dict],
) -> None:
    command, scores = evaluated
    train = command.json("eval", "runs/only", "--k", "1,4", "--split", "train", "--limit", "5")
    validation = command.json("eval", "runs/only", "--k", "1,4", "--split", "validation")
    assert (train["split"], train["problems"], validation["split"]) == ("rl", 5, "validation")
    assert len({document["eval_dir"] for document in (scores, train, validation)}) == 3
    task = make_task(compose(TINY).task)
    assert [row[0] for row in train["counts"]] == [problem.id for problem in task.problems("rl")[:5]]
    reported = command.json("report", "runs/only", "--training", "--format", "csv")
    assert {row["split"] for row in reported["main"]} == {"test", "validation", "rl"}
    (row,) = reported["training"]
    assert row["train_pass@4"] == pytest.approx(train["pass@4"]["value"], abs=1e-4)
    assert row["test_pass@4"] == pytest.approx(scores["pass@4"]["value"], abs=1e-4)
    assert 0 <= row["rollouts_pass@1"] <= row["rollouts_pass@4"] <= 1


def test_another_temperature_has_another_directory(evaluated: tuple[CommandLine, dict]) -> None:
    command, scores = evaluated
    cooler = command.json("eval", "runs/only", "--k", "1,4", "--temperature", "0.5", "--top-p", "0.9")
    assert cooler["eval_dir"] != scores["eval_dir"]
    assert cooler["entropy"]["value"] < scores["entropy"]["value"]


def test_each_temperature_is_an_evaluation_and_greedy_has_one_sample(
    evaluated: tuple[CommandLine, dict],
) -> None:
    command, scores = evaluated
    done = command("eval", "runs/only", "--k", "1,4", "--temperature", "0,0.5,1", "--json")
    assert done.returncode == 0, done.stderr
    assert "only pass@1 is computed, not k = 4" in done.stderr
    greedy, cooler, own = json.loads(done.stdout)["evaluations"]
    assert own["eval_dir"] == scores["eval_dir"]  # the run's own temperature: no sample is drawn again
    assert own["counts"] == scores["counts"]
    assert len({document["eval_dir"] for document in (greedy, cooler, own)}) == 3
    assert [(document["temperature"], document["n"]) for document in (greedy, cooler, own)] == [
        (0.0, 1),
        (0.5, 8),
        (1.0, 8),
    ]
    assert (greedy["k"], cooler["k"]) == ([1], [1, 4])
    assert {1, 4} <= set(own["k"])  # other tests have asked this evaluation for more k
    assert "pass@4" not in greedy
    assert greedy["entropy"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert {sample["logprob"] for sample in read_samples(command.directory / greedy["eval_dir"])} == {0.0}
    # top-p has no effect at temperature 0, so this is the same evaluation
    nucleus = command.json("eval", "runs/only", "--k", "1", "--n", "3", "--temperature", "0", "--top-p", "0.5")
    assert (nucleus["eval_dir"], nucleus["top_p"]) == (greedy["eval_dir"], 1.0)


def test_several_temperatures_share_one_table_with_the_base(
    trained: tuple[CommandLine, dict[str, Path]], tmp_path: Path
) -> None:
    command = CommandLine(tmp_path)
    shutil.copytree(trained[1]["grpo"], tmp_path / "runs" / "only")
    alone = command("eval", "runs/only", "--k", "1,4", "--temperature", "0.5,1")
    assert alone.stdout.count("n = 8") == 1
    assert "the base was not evaluated like this: progrpo eval progrpo/lab-base --temperature 0.5,1" in alone.stdout
    same = ["--tasks", "countdown", "--set", "task.test_problems=6", "--set", "task.validation_problems=6"]
    assert command("eval", "progrpo/lab-base", "--k", "1,4", "--temperature", "0.5", *same).returncode == 0
    beside = command("eval", "runs/only", "--k", "1,4", "--temperature", "0.5,1")
    rows = [line.replace("│", " ").split() for line in beside.stdout.splitlines() if "│" in line]
    assert [row[:2] for row in rows if row[0] in ("0.5", "1")] == [["0.5", "base"], ["0.5", "grpo"], ["1", "grpo"]]
    assert sum(row[0] == "difference" for row in rows) == 1


def test_a_killed_evaluation_resumes_to_the_same_samples(progrpo: CommandLine) -> None:
    command = ["eval", "progrpo/lab-base", "--k", "1,32", "--limit", "40"]
    process = progrpo.start(*command)
    pattern = "runs/eval-progrpo--lab-base/eval/*/samples.jsonl"

    def some_samples() -> bool:
        paths = list(progrpo.directory.glob(pattern))
        return bool(paths) and len(paths[0].read_text().splitlines()) >= 512

    wait_for(some_samples, process)
    kill(process)
    (samples,) = progrpo.directory.glob(pattern)
    with samples.open("a") as file:
        file.write('{"problem_id": "cut sho')  # a line cut by a crash
    resumed = progrpo.json(*command)
    straight = CommandLine(progrpo.directory / "other")
    straight.directory.mkdir()
    whole = straight.json(*command)
    assert read_samples(progrpo.directory / resumed["eval_dir"]) == read_samples(straight.directory / whole["eval_dir"])
    for metric in ("pass@1", "pass@32", "entropy", "distinct_correct", "response_length", "beyond_majority"):
        assert resumed[metric] == whole[metric]


def test_a_copy_of_the_base_has_the_same_scores(
    progrpo: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    from progrpo_cli.config.paths import ASSETS

    arguments = ["--k", "1,4", "--limit", "8"]
    base = progrpo.json("eval", "progrpo/lab-base", *arguments)
    shutil.copytree(ASSETS / "lab-base", progrpo.directory / "copy")
    copy = progrpo.json("eval", "copy", *arguments)
    assert base["policy"] == "base"
    assert base["counts"] == copy["counts"]
    assert base["pass@4"] == copy["pass@4"]
    assert (progrpo.directory / base["eval_dir"]).is_relative_to(progrpo.directory / "runs" / "eval-progrpo--lab-base")
    manifest = json.loads((progrpo.directory / "runs" / "eval-progrpo--lab-base" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["status"], manifest["model"]) == ("model", "finished", "progrpo/lab-base")


def test_a_directory_that_cannot_be_loaded_gives_a_one_line_error(progrpo: CommandLine) -> None:
    (progrpo.directory / "broken").mkdir()
    (progrpo.directory / "broken" / "config.json").write_text("{}")
    done = progrpo("eval", "broken", "--k", "1")
    assert done.returncode == 2
    assert "cannot load broken" in done.stderr.splitlines()[-1]


def test_the_chat_template_is_used_if_the_task_asks_for_it() -> None:
    """With a template that repeats the user's message, the chat path draws the samples of the plain path."""
    from progrpo_cli.config.paths import ASSETS
    from progrpo_cli.policies import policy
    from progrpo_cli.sampling.base import Batch
    from progrpo_cli.sampling.hf import HfSampler

    model, tokenizer = policy.load(policy.Source("base", str(ASSETS / "lab-base")), "float32", "cpu", chat=False)
    settings = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 30}
    prompts = ["3 5 7 12=24:", "1 2 3 4=9:"]
    batches = [Batch(prompts, seed=3)]
    plain = list(HfSampler(model, tokenizer, **settings, chat=False).sample(batches))
    tokenizer.chat_template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    assert list(HfSampler(model, tokenizer, **settings, chat=True).sample(batches)) == plain


def test_sigterm_ends_an_evaluation_with_130_and_keeps_its_samples(progrpo: CommandLine) -> None:
    process = progrpo.start("eval", "progrpo/lab-base", "--k", "1,32")
    pattern = "runs/eval-progrpo--lab-base/eval/*/samples.jsonl"
    wait_for(lambda: any(path.stat().st_size for path in progrpo.directory.glob(pattern)), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (samples,) = progrpo.directory.glob(pattern)
    assert len(read_samples(samples.parent)) % 256 == 0
    manifest = json.loads((progrpo.directory / "runs" / "eval-progrpo--lab-base" / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"


def test_the_table_shows_the_base_beside_the_trained_policy(
    progrpo: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    shutil.copytree(trained[1]["grpo"], progrpo.directory / "runs" / "only")
    alone = progrpo("eval", "--k", "1,4", "--limit", "6")
    assert "the base was not evaluated like this: progrpo eval progrpo/lab-base" in alone.stdout
    assert "difference" not in alone.stdout
    progrpo.json("eval", "progrpo/lab-base", "--k", "1,4", "--limit", "6")
    scores = progrpo.json("eval", "runs/only", "--k", "1,4", "--limit", "6")
    beside = progrpo("eval", "runs/only", "--k", "1,4", "--limit", "6").stdout
    header = next(line for line in beside.splitlines() if "base" in line)
    assert header.index("base") < header.index("grpo (only)") < header.index("difference")
    row = next(line for line in beside.splitlines() if "pass@4" in line)
    assert row.count("[") == 3
    assert f"{scores['pass@4']['value']:.3f} [" in row
    assert "response_length (tokens)" in beside


def test_a_tokenizer_without_a_chat_template_gives_a_one_line_error(progrpo: CommandLine) -> None:
    done = progrpo("eval", "progrpo/lab-base", "--k", "1", "--tasks", "countdown_chat", "-q")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "progrpo: progrpo/lab-base has no chat template, which this task needs; try task=countdown"
    ]
