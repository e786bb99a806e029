"""Controls for the gain that lab_bar.py measures, on the same test problems: other explanations, and where it lies.

Run ``python tests/bench/lab_controls.py [train.KEY=VALUE...]`` after lab_bar.py with the same settings; it reads the
runs and completions of lab_bar.py. It also writes the policies of its controls to ``runs/lab-bar/``.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import lab_bar

from progrpo_cli.config.paths import LAB_BASE
from progrpo_cli.policies import policy
from progrpo_cli.records import files
from progrpo_cli.sampling.base import Batch, derived_seed
from progrpo_cli.tasks.base import Attempt, Problem
from progrpo_cli.tasks.countdown.styles import STEPWISE
from progrpo_cli.tasks.countdown.task import Countdown

SEED = lab_bar.SEEDS[0]
TRAINED = lab_bar.RUNS / f"grpo-s{SEED}"
KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PASSES = (1, 2, 4)
"""Passes over the right samples; the best result counts for fine-tuning."""
BATCH = 256
LEARNING_RATE = 2e-4


def main(overrides: Sequence[str] = ()) -> None:
    task, problems = lab_bar.fresh_problems()

    def rates(name: str, temperature: float, beginning: str = "") -> str:
        correct = lab_bar.sample_correctness(task, problems, name, temperature, beginning=beginning)
        return f"{correct.mean():.3f} | {lab_bar.pass_at(32, correct)}"

    print("| policy | temperature | pass@1 | pass@32 |\n|---|---|---|---|")
    for temperature in lab_bar.TEMPERATURES:
        print(f"| GRPO, seed {SEED} | {temperature:g} | {rates(str(TRAINED / 'policy'), temperature)} |", flush=True)
    for style in STEPWISE:
        for temperature in lab_bar.TEMPERATURES:
            numbers = rates(LAB_BASE, temperature, f"{style}:")
            print(f"| base, `{style}:` forced | {temperature:g} | {numbers} |", flush=True)
    coins = lab_bar.RUNS / f"random-rewards-s{SEED}"
    lab_bar.train(coins, SEED, overrides, program=(str(Path(__file__).with_name("_random_rewards.py")),))
    for temperature in (0.0, 0.3, 1.0):
        print(f"| GRPO, random rewards | {temperature:g} | {rates(str(coins / 'policy'), temperature)} |", flush=True)
    samples = read_completions(TRAINED / "completions")
    own = [(prompt, completion) for prompt, completion, is_right in samples if is_right]
    bases = sample_right_from_base(task, [prompt for prompt, _, _ in samples])
    for source, pairs in (("GRPO's own samples", own), ("the base's samples of the same problems", bases)):
        for passes, path in fine_tune(pairs, lab_bar.RUNS / f"rejection-{source.split()[0]}"):
            label = f"fine-tuned on the {len(pairs)} right ones of {source}, {passes} passes"
            for temperature in (0.0, 1.0):
                print(f"| {label} | {temperature:g} | {rates(str(path), temperature)} |", flush=True)
    _print_curves(task, problems)


def read_completions(directory: Path) -> list[tuple[str, str, bool]]:
    """Prompt, completion and correctness of each sample that a run trained on."""
    samples = [sample for path in sorted(directory.glob("*.jsonl")) for sample in files.read_lines(path)]
    return [(sample["prompt"], sample["completion"], sample["rewards"]["correctness"] > 0) for sample in samples]


def sample_right_from_base(task: Countdown, prompts: Sequence[str]) -> list[tuple[str, str]]:
    """Sample the base equally often on the same prompts; returns the right samples."""
    sampler = lab_bar.make_sampler(LAB_BASE, 1.0)
    by_prompt = {
        problem.prompt: problem
        for problem in Countdown(lab_bar.MAX_NEW_TOKENS, {"rl": None, "validation": 0, "test": 0}).problems("rl")
    }
    counts = Counter(prompts)
    batches = [Batch([prompt] * count, derived_seed(f"rejection {prompt}")) for prompt, count in counts.items()]
    pairs = []
    for prompt, samples in zip(counts, sampler.sample(batches), strict=True):
        verdicts = task.verdicts([Attempt(by_prompt[prompt], sample.text, sample.finished) for sample in samples])
        correct = [sample.text for sample, verdict in zip(samples, verdicts, strict=True) if verdict == "correct"]
        pairs += [(prompt, text) for text in correct]
    return pairs


def fine_tune(pairs: Sequence[tuple[str, str]], directory: Path) -> list[tuple[int, Path]]:
    """Fine-tune the base; returns the number of passes (1, 2 and 4) and the directory of each policy."""
    import torch

    model, tokenizer = policy.load(policy.resolve(LAB_BASE), "float32", "cpu", chat=False)
    model.train()
    torch.manual_seed(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    saved = []
    for number in range(1, max(PASSES) + 1):
        for chosen in torch.randperm(len(pairs)).split(BATCH):
            texts = [pairs[index] for index in chosen]
            whole = tokenizer([prompt + text + tokenizer.eos_token for prompt, text in texts], padding=True)
            ids = torch.tensor(whole["input_ids"])
            counted = torch.tensor(whole["attention_mask"]).bool()
            for row, (_, text) in enumerate(texts):
                answer = len(tokenizer(text + tokenizer.eos_token, add_special_tokens=False)["input_ids"])
                counted[row, :-answer] = False  # padding and prompt are on the left
            logits = model(input_ids=ids, attention_mask=torch.tensor(whole["attention_mask"])).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1][counted[:, 1:]], ids[:, 1:][counted[:, 1:]])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
        if number in PASSES:
            path = directory / f"passes-{number}"
            model.save_pretrained(path)
            tokenizer.save_pretrained(path)
            saved.append((number, path))
    return saved


def _print_curves(task: Countdown, problems: Sequence[Problem]) -> None:
    """Print Pass@k of base and policy up to 256 samples, and the number of problems that only one of them solves."""

    base, trained = (
        lab_bar.sample_correctness(task, problems, name, 1.0, samples=max(KS))
        for name in (LAB_BASE, str(TRAINED / "policy"))
    )
    print(
        f"\n| temperature 1, n = {max(KS)} | " + " | ".join(f"pass@{k}" for k in KS) + f" |\n|{'---|' * (len(KS) + 1)}"
    )
    for label, correct in (("base", base), (f"GRPO, seed {SEED}", trained)):
        print(f"| {label} | " + " | ".join(lab_bar.pass_at(k, correct) for k in KS) + " |")
    gained = trained.any(1) & ~base.any(1)
    lost = base.any(1) & ~trained.any(1)
    print(
        f"\nof {len(problems)} problems with {max(KS)} samples: {base.any(1).sum()} solved by the base, "
        f"{trained.any(1).sum()} by GRPO; gained {gained.sum()}, lost {lost.sum()}; more often right "
        f"{(trained.mean(1) > base.mean(1)).sum()}, less often {(trained.mean(1) < base.mean(1)).sum()}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
