"""The settings that determine an evaluation's numbers and therefore its directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from progrpo_cli.config.hashing import digest
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.scores_file import OWN_END, ComparableKey, Measure, Sampling, digest_of_ids
from progrpo_cli.section import LARGEST_K, LARGEST_N, MOST_K, Mark
from progrpo_cli.tasks.base import Problem, Split
from progrpo_cli.tasks.config import TaskConfig

SCHEME = 2
"""Version of the sampling procedure. Another version draws other samples from the same seed, into another directory."""
ROWS_PER_BATCH = 256
TOKENS_PER_BATCH = 2**17


@dataclass(frozen=True)
class EvalSettings:
    """Everything that can change a sample or a verdict, except the weights of the policy."""

    task: TaskConfig
    split: Split
    n: int
    temperature: float
    top_p: float
    seed: int
    backend: str
    dtype: str
    limit: int | None
    """Number of problems to use, from the start of the split; None: all."""
    policy: str
    """Fingerprint of the weights if the directory does not determine them, else empty."""
    stop_tokens: tuple[str, ...] = ()
    """Texts of additional end tokens from the configuration."""
    other_ends: tuple[str, ...] = ()
    """Texts of all end tokens; empty if the tokenizer's end-of-sequence token is the only one."""

    @property
    def rows_per_batch(self) -> int:
        """Completions sampled at once; fewer if they are long, so that their cache fits into memory."""
        return max(8, min(ROWS_PER_BATCH, TOKENS_PER_BATCH // self.task.max_new_tokens))

    def directory_name(self) -> str:
        """``<task>-<hash of the sampling settings>``.

        The judge's version is not part of it; samples judged by another version are refused instead, see ``run.py``.
        """
        # Defaults are left out so that new keys do not change the hash, as in config_hash.
        task = self.task.model_dump(mode="json", exclude_defaults=True, exclude={"judge_version"})
        hashed = asdict(self) | {"task": task, "rows_per_batch": self.rows_per_batch, "scheme": SCHEME}
        hashed.pop("stop_tokens")  # contained in other_ends
        if not self.other_ends:
            hashed.pop("other_ends")
        return f"{self.task.label}-{digest(hashed)[:8]}"

    def key(self, problems: Sequence[Problem], *, chat: bool) -> ComparableKey:
        """The key that decides which other scores these may be compared with."""
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
    """Samples per problem: ``n`` checked against the requested k, or twice the largest k if n is None.

    With n = k samples the Pass@k of a problem is 0 or 1; twice as many samples give a useful estimate.

    Raises:
        RequestError: a k is below 1 or above n, or k or n exceeds its limit.
    """
    if len(ks) > MOST_K or max(ks) > LARGEST_K or (n or 0) > LARGEST_N:
        raise RequestError(
            f"--k, --n: at most {MOST_K} values of k up to {LARGEST_K:,}, and {LARGEST_N:,} samples per problem"
        )
    if any(k < 1 for k in ks):
        raise RequestError(f"--k {min(ks)}: k must be at least 1")
    if n is None:
        return 2 * max(ks)
    if max(ks) > n:
        raise RequestError(f"--k {max(ks)} needs --n {max(ks)} or more samples per problem, not {n}")
    return n
