"""Sampling for an evaluation: our back end `hf`, one ``model.generate`` a problem, and lm-evaluation-harness.

The same model, problems, n, length limit and temperature, all cores, in turn in one process; each repeat rotates who
comes first, and the ratio is taken within a repeat. Seconds are for the whole of the work, from prompts to texts. On
the lab completions end by themselves, of the same distribution for all three; SmolLM2's are often cut by the limit.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from progrpo_cli.heavy import heavy_imports

with heavy_imports():  # as `progrpo eval` does
    import torch

    from progrpo_cli.sampling.hf import HfSampler

from progrpo_cli.config.compose import compose
from progrpo_cli.evaluation.run import evaluate
from progrpo_cli.evaluation.settings import EvalSettings
from progrpo_cli.policies import policy
from progrpo_cli.sampling.base import Batch, Sample, Sampler
from progrpo_cli.tasks.countdown import expression
from progrpo_cli.tasks.countdown import problems as countdown
from progrpo_cli.tasks.registry import make_task

HARNESS_BATCH = 64  # larger ones are not faster here: see docs/benchmarks.md
CASES = (  # model, overrides, problems, n, repeats
    ("progrpo/lab-base", [], 100, 8, 3),
    ("progrpo/lab-base", [], 30, 64, 3),
    ("progrpo/smollm2-135m", ["model=smollm2-135m", "task=countdown_chat", "task.max_new_tokens=32"], 8, 8, 2),
)


class Case:
    """One model with prompts as text that it continues (the chat template applied)."""

    def __init__(self, name: str, overrides: list[str], problems: int, n: int) -> None:
        config = compose(overrides)
        self.name, self.n, self.limit = name, n, config.task.max_new_tokens
        self.task = make_task(config.task)
        self.model, self.tokenizer = policy.load(policy.resolve(name), "float32", "cpu", chat=self.task.chat)
        self.raw = [problem.prompt for problem in self.task.problems("test")[:problems]]
        self.prompts = [self._worded(prompt) for prompt in self.raw]

    def _worded(self, prompt: str) -> str:
        if not self.task.chat:
            return prompt
        messages = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def ours(self) -> int:
        """Completions by `progrpo eval`'s back end, in its batches of 256; how many tokens."""
        sampler = HfSampler(
            self.model, self.tokenizer, temperature=1.0, top_p=1.0, max_new_tokens=self.limit, chat=self.task.chat
        )
        rows = [prompt for prompt in sorted(self.raw, key=len) for _ in range(self.n)]
        batches = [Batch(rows[start : start + 256], start) for start in range(0, len(rows), 256)]
        return sum(sample.tokens for drawn in sampler.sample(batches) for sample in drawn)

    def generate(self) -> int:
        """One ``model.generate`` a problem, n sequences each."""
        tokens = 0
        for prompt in self.prompts:
            encoded = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=not self.task.chat)
            with torch.inference_mode():
                out = self.model.generate(
                    **encoded,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    num_return_sequences=self.n,
                    max_new_tokens=self.limit,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
            completions = out[:, encoded.input_ids.size(1) :]
            self.tokenizer.batch_decode(completions, skip_special_tokens=True)
            ends = completions == self.tokenizer.eos_token_id
            tokens += int((ends.cumsum(dim=1) - ends.long() == 0).sum())
        return tokens

    def harness(self) -> int:
        """lm-evaluation-harness: each request repeated n times, as its ``repeats`` does."""
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        asked = {
            "do_sample": True,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "max_gen_toks": self.limit,
            "until": [],
        }
        requests = [
            Instance(request_type="generate_until", doc={}, arguments=(prompt, asked), idx=place)
            for place, prompt in enumerate(self.prompts)
            for _ in range(self.n)
        ]
        lm = HFLM(
            pretrained=self.model,
            tokenizer=self.tokenizer,
            batch_size=HARNESS_BATCH,
            max_length=self.model.config.max_position_embeddings,
            add_bos_token=None if self.task.chat else True,
        )
        texts = lm.generate_until(requests, disable_tqdm=True)
        assert len(texts) == len(requests)
        return sum(len(ids) + 1 for ids in self.tokenizer(texts, add_special_tokens=False).input_ids)


def compare(case: Case, repeats: int) -> None:
    """Print a row a repeat and the medians of the ratios."""
    contenders: dict[str, Callable[[], int]] = {"ours": case.ours, "generate": case.generate, "harness": case.harness}
    names = list(contenders)
    ratios: dict[str, list[tuple[float, float]]] = {"generate": [], "harness": []}
    all_of_them, case.raw, case.prompts = (case.raw, case.prompts), case.raw[:2], case.prompts[:2]
    for warm_up in contenders.values():
        warm_up()
    case.raw, case.prompts = all_of_them
    for repeat in range(repeats):
        wall, processor, tokens = {}, {}, {}
        for name in names[repeat % 3 :] + names[: repeat % 3]:
            torch.manual_seed(repeat)
            began = time.perf_counter(), time.process_time()
            tokens[name] = contenders[name]()
            wall[name], processor[name] = time.perf_counter() - began[0], time.process_time() - began[1]
        for name, of_name in ratios.items():
            of_name.append((wall[name] / wall["ours"], processor[name] / processor["ours"]))
        cells = " | ".join(f"{wall[name]:.2f} s, {tokens[name] / wall[name]:.0f} tokens/s" for name in names)
        last = " | ".join(f"{of_name[-1][0]:.2f}" for of_name in ratios.values())
        print(f"| {case.name}, {len(case.prompts)} problems, n = {case.n} | {cells} | {last} |", flush=True)
    for place, clock in enumerate(("time", "processor time")):
        medians = " | ".join(f"{statistics.median(each[place] for each in of_name):.2f}" for of_name in ratios.values())
        print(f"| {case.name}, n = {case.n}: median ratio of {clock} | | | | {medians} |", flush=True)


class Timed(HfSampler):
    """Notes when batches are drawn and what that costs the processor, and how long the next samples are waited for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waited = 0.0
        self.drawn: list[tuple[float, float, float]] = []
        """Of each batch begin, end, and seconds of the processor."""

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        found = super().sample(batches)
        while True:
            began = time.perf_counter()
            batch = next(found, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _draw(self, batch: Batch) -> list[Sample]:
        began, busy = time.perf_counter(), time.thread_time()
        try:
            return super()._draw(batch)
        finally:
            self.drawn.append((began, time.perf_counter(), time.thread_time() - busy))

    def drawing(self) -> float:
        """Seconds in which at least one batch was being drawn."""
        seconds, covered = 0.0, 0.0
        for began, ended, _ in sorted(self.drawn):
            seconds += max(0.0, ended - max(began, covered))
            covered = max(covered, ended)
        return seconds


def share_of_the_rest(problems: int = 300, n: int = 64, repeats: int = 5) -> None:
    """What an evaluation on the lab does besides sampling, the policy being loaded, in four shares.

    Samples are judged and written while the next ones are drawn: of the wall time, that in which no batch is drawn;
    that in which the evaluation does not wait for samples; and of the processor's time, all but drawing. From these is
    reckoned what sampling alone would save of the wall time: all that in which no batch is drawn, and of the rest of
    the work, which keeps cores from drawing, its part of all cores. (Sampling alone, measured in turn, scatters by more
    than the difference.) Nothing is remembered from the evaluation before.
    """
    config = compose()
    settings = EvalSettings(
        task=config.task, split="test", n=n, temperature=1.0, top_p=1.0, seed=0, backend="hf", dtype="float32",
        limit=problems, policy="bench",
    )  # fmt: skip
    model, tokenizer = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    timed: list[Timed] = []

    def make(task: Any) -> Sampler:
        timed.append(
            Timed(model, tokenizer, temperature=1.0, top_p=1.0, max_new_tokens=task.max_new_tokens, chat=task.chat)
        )
        return timed[-1]

    seconds: list[float] = []
    shares: dict[str, list[float]] = {
        "of the wall time no batch is being drawn": [],
        "of the wall time it does not wait for samples": [],
        "of the processor's time is not drawing": [],
        "of the wall time sampling alone would save (reckoned)": [],
    }
    for _ in range(1 + repeats):
        for remembered in (countdown.keys_of, countdown._counts_by_numbers, expression.parse):
            remembered.cache_clear()
        with TemporaryDirectory() as directory:
            began, busy = time.perf_counter(), time.process_time()
            evaluate(Path(directory), settings, [1, 32], make_sampler=make, described={}, title="bench")
            seconds.append(time.perf_counter() - began)
            busy = time.process_time() - busy
        sampler = timed[-1]
        wall, cores = seconds[-1], torch.get_num_threads()
        between = wall - sampler.drawing()
        besides = busy - sum(of_batch for _, _, of_batch in sampler.drawn)
        saved = between + max(0.0, besides - between) / cores  # between batches one core works
        parts = (between / wall, 1 - sampler.waited / wall, besides / busy, saved / wall)
        for of_name, part in zip(shares.values(), parts, strict=True):
            of_name.append(part)
    print(f"\nAn evaluation on the lab, {problems} problems, n = {n}: {statistics.median(seconds[1:]):.1f} s.")
    for name, (_, *of_name) in shares.items():  # the first one warms up
        each = ", ".join(f"{100 * share:.1f}" for share in of_name)
        print(f"{100 * statistics.median(of_name):.1f} % ({each}) {name}.")


def main() -> None:
    print("| case | ours | one generate a problem | lm-evaluation-harness | generate / ours | harness / ours |")
    print("| --- | --- | --- | --- | ---: | ---: |")
    for name, overrides, problems, n, repeats in CASES:
        compare(Case(name, overrides, problems, n), repeats)
    share_of_the_rest()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lm_eval"))
    print(f"\n{torch.get_num_threads()} cores; {packages}")
