"""Sampling for an evaluation: our back end `hf`, one ``model.generate`` per problem, and lm-evaluation-harness.

They use the same model, problems, n, length limit and temperature and all cores, and run in turn in one process. Each
repeat rotates their order, and ratios are taken within a repeat. The time is that of the whole work, from prompts to
texts. On the lab completions end by themselves, with the same distribution for all three; SmolLM2's are often cut off.
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

HARNESS_BATCH = 64  # larger batches are not faster here, see docs/benchmarks.md
CASES = (  # model, overrides, problems, n, repeats
    ("progrpo/lab-base", [], 100, 8, 3),
    ("progrpo/lab-base", [], 30, 64, 3),
    ("progrpo/smollm2-135m", ["model=smollm2-135m", "task=countdown_chat", "task.max_new_tokens=32"], 8, 8, 2),
)


class Case:
    """A model with its prompts as text (after the chat template)."""

    def __init__(self, name: str, overrides: list[str], problems: int, n: int) -> None:
        config = compose(overrides)
        self.name, self.n, self.limit = name, n, config.task.max_new_tokens
        self.task = make_task(config.task)
        self.model, self.tokenizer = policy.load(policy.resolve(name), "float32", "cpu", chat=self.task.chat)
        self.raw = [problem.prompt for problem in self.task.problems("test")[:problems]]
        self.prompts = [self._apply_template(prompt) for prompt in self.raw]

    def _apply_template(self, prompt: str) -> str:
        if not self.task.chat:
            return prompt
        messages = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def ours(self) -> int:
        """Sample with `progrpo eval`'s back end in batches of 256; returns the number of tokens."""
        sampler = HfSampler(
            self.model, self.tokenizer, temperature=1.0, top_p=1.0, max_new_tokens=self.limit, chat=self.task.chat
        )
        rows = [prompt for prompt in sorted(self.raw, key=len) for _ in range(self.n)]
        batches = [Batch(rows[start : start + 256], start) for start in range(0, len(rows), 256)]
        return sum(sample.tokens for drawn in sampler.sample(batches) for sample in drawn)

    def generate(self) -> int:
        """Sample with one ``model.generate`` per problem, n sequences each; returns the number of tokens."""
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
        """Sample with lm-evaluation-harness, each request repeated n times; returns the number of tokens."""
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        options = {
            "do_sample": True,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "max_gen_toks": self.limit,
            "until": [],
        }
        requests = [
            Instance(request_type="generate_until", doc={}, arguments=(prompt, options), idx=index)
            for index, prompt in enumerate(self.prompts)
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
    """Print a row per repeat and the medians of the ratios."""
    contenders: dict[str, Callable[[], int]] = {"ours": case.ours, "generate": case.generate, "harness": case.harness}
    names = list(contenders)
    ratios: dict[str, list[tuple[float, float]]] = {"generate": [], "harness": []}
    all_prompts, case.raw, case.prompts = (case.raw, case.prompts), case.raw[:2], case.prompts[:2]
    for warm_up in contenders.values():
        warm_up()
    case.raw, case.prompts = all_prompts
    for repeat in range(repeats):
        wall, processor, tokens = {}, {}, {}
        for name in names[repeat % 3 :] + names[: repeat % 3]:
            torch.manual_seed(repeat)
            began = time.perf_counter(), time.process_time()
            tokens[name] = contenders[name]()
            wall[name], processor[name] = time.perf_counter() - began[0], time.process_time() - began[1]
        for name, values in ratios.items():
            values.append((wall[name] / wall["ours"], processor[name] / processor["ours"]))
        cells = " | ".join(f"{wall[name]:.2f} s, {tokens[name] / wall[name]:.0f} tokens/s" for name in names)
        last = " | ".join(f"{values[-1][0]:.2f}" for values in ratios.values())
        print(f"| {case.name}, {len(case.prompts)} problems, n = {case.n} | {cells} | {last} |", flush=True)
    for index, clock in enumerate(("time", "processor time")):
        medians = " | ".join(f"{statistics.median(pair[index] for pair in values):.2f}" for values in ratios.values())
        print(f"| {case.name}, n = {case.n}: median ratio of {clock} | | | | {medians} |", flush=True)


class Timed(HfSampler):
    """Records when batches are drawn, their processor time, and how long the caller waits for samples."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waited = 0.0
        self.drawn: list[tuple[float, float, float]] = []
        """Start, end and processor seconds of each batch."""

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        batches = super().sample(batches)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
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
        """Seconds during which at least one batch was drawn."""
        seconds, covered = 0.0, 0.0
        for began, ended, _ in sorted(self.drawn):
            seconds += max(0.0, ended - max(began, covered))
            covered = max(covered, ended)
        return seconds


def share_of_the_rest(problems: int = 300, n: int = 64, repeats: int = 5) -> None:
    """Print four shares of the work of an evaluation on the lab other than sampling; the policy is already loaded.

    Samples are judged and written while the next ones are drawn. The shares are: of the wall time, that without a batch
    being drawn and that without waiting for samples; of the processor time, all but drawing; and an estimate of the
    wall time that sampling alone would save. The estimate is the time without drawing, plus the rest of the work
    divided by the number of cores, since it keeps cores from drawing. (Sampling alone, if measured in turn, varies by
    more than the difference.) Caches are cleared before each evaluation.
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
        "of the wall time sampling alone would save (estimated)": [],
    }
    for _ in range(1 + repeats):
        for remembered in (countdown.keys_of, countdown._counts_by_numbers, expression.parse):
            remembered.cache_clear()
        with TemporaryDirectory() as directory:
            began, busy = time.perf_counter(), time.process_time()
            evaluate(Path(directory), settings, [1, 32], make_sampler=make, policy_fields={}, title="bench")
            seconds.append(time.perf_counter() - began)
            busy = time.process_time() - busy
        sampler = timed[-1]
        wall, cores = seconds[-1], torch.get_num_threads()
        idle = wall - sampler.drawing()  # time in which no batch is drawn
        other = busy - sum(batch_busy for _, _, batch_busy in sampler.drawn)
        saved = idle + max(0.0, other - idle) / cores  # between batches one core works
        parts = (idle / wall, 1 - sampler.waited / wall, other / busy, saved / wall)
        for values, part in zip(shares.values(), parts, strict=True):
            values.append(part)
    print(f"\nAn evaluation on the lab, {problems} problems, n = {n}: {statistics.median(seconds[1:]):.1f} s.")
    for name, (_, *values) in shares.items():  # the first one warms up
        repeats_text = ", ".join(f"{100 * share:.1f}" for share in values)
        print(f"{100 * statistics.median(values):.1f} % ({repeats_text}) {name}.")


def main() -> None:
    print("| case | ours | one generate a problem | lm-evaluation-harness | generate / ours | harness / ours |")
    print("| --- | --- | --- | --- | ---: | ---: |")
    for name, overrides, problems, n, repeats in CASES:
        compare(Case(name, overrides, problems, n), repeats)
    share_of_the_rest()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lm_eval"))
    print(f"\n{torch.get_num_threads()} cores; {packages}")
