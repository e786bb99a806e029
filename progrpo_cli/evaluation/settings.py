"""What decides an evaluation's numbers, and so its directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from progrpo_cli.config.hashing import digest
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.scores_file import OWN_END, ComparableKey, Measure, Sampling, digest_of_ids
from progrpo_cli.section import Mark
from progrpo_cli.tasks.base import Problem, Split
from progrpo_cli.tasks.config import TaskConfig

SCHEME = 2
"""Counts how samples were drawn: another scheme draws others from the same seed, so it is another directory."""
ROWS_PER_BATCH = 256
TOKENS_PER_BATCH = 2**17


@dataclass(frozen=True)
class EvalSettings:
    """Everything that can change a sample or a verdict, besides the policy's weights."""

    task: TaskConfig
    split: Split
    n: int
    temperature: float
    top_p: float
    seed: int
    backend: str
    dtype: str
    limit: int | None
    """Only the first so many problems of the split."""
    policy: str
    """Fingerprint of the weights, where the directory does not fix them."""
    stop_tokens: tuple[str, ...] = ()
    """Texts of tokens that the configuration adds to those that end a completion."""
    other_ends: tuple[str, ...] = ()
    """All tokens that end a completion, where they are others than the tokenizer's own alone; else empty."""

    @property
    def rows_per_batch(self) -> int:
        """Completions sampled at once, fewer where they are long: their cache has to fit into memory."""
        return max(8, min(ROWS_PER_BATCH, TOKENS_PER_BATCH // self.task.max_new_tokens))

    def directory_name(self) -> str:
        """``<task>-<hash of the sampling settings>``.

        The judge's version is not in it: samples that another one judged are not gone on with, see ``run.py``.
        """
        # keys added later: see config_hash
        task = self.task.model_dump(mode="json", exclude_defaults=True, exclude={"judge_version"})
        described = asdict(self) | {"task": task, "rows_per_batch": self.rows_per_batch, "scheme": SCHEME}
        described.pop("stop_tokens")  # they are among the ends
        if not self.other_ends:
            described.pop("other_ends")
        return f"{self.task.label}-{digest(described)[:8]}"

    def key(self, problems: Sequence[Problem], *, chat: bool) -> ComparableKey:
        """With what the scores of these problems can be compared."""
        judged_with = {name: getattr(self.task, name) for name in self.task.marked(Mark.DECIDES_VERDICTS)}
        return ComparableKey(
            measure=Measure(
                task=self.task.label,
                split=self.split,
                problem_ids=digest_of_ids(problem.id for problem in problems),
                problems=digest([[problem.id, problem.prompt] for problem in problems]),
                judged_by=digest([[problem.judged_by for problem in problems], judged_with]),
                judge_version=self.task.judge_version,
                prompt="chat" if chat else "plain",
                max_new_tokens=self.task.max_new_tokens,
                stop_tokens=(OWN_END, *self.stop_tokens),
                backend=self.backend,
                dtype=self.dtype,
            ),
            sampling=Sampling(temperature=self.temperature, top_p=self.top_p),
        )


def samples_needed(ks: list[int], n: int | None) -> int:
    """n, checked against the k asked for; by default twice the largest k.

    Pass@k from n = k samples is 0 or 1 for each problem: twice as many make the estimate worth its interval.

    Raises:
        RequestError: a k below 1, or above n.
    """
    if any(k < 1 for k in ks):
        raise RequestError(f"--k {min(ks)}: k must be at least 1")
    if n is None:
        return 2 * max(ks)
    if max(ks) > n:
        raise RequestError(f"--k {max(ks)} needs --n {max(ks)} or more samples a problem, not {n}")
    return n
