"""What decides an evaluation's numbers, and so its directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from progrpo_cli.config.hashing import digest
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.base import Split
from progrpo_cli.tasks.sections import TaskConfig

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

    @property
    def rows_per_batch(self) -> int:
        """Completions sampled at once, fewer where they are long: their cache has to fit into memory."""
        return max(8, min(ROWS_PER_BATCH, TOKENS_PER_BATCH // self.task.max_new_tokens))

    def directory_name(self) -> str:
        """``<task>-<hash of the sampling settings>``."""
        task = self.task.model_dump(mode="json", exclude_defaults=True)  # keys added later: see config_hash
        described = asdict(self) | {"task": task, "rows_per_batch": self.rows_per_batch, "scheme": SCHEME}
        return f"{self.task.label}-{digest(described)[:8]}"


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
