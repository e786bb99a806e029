"""Verdicts ``error``: our judge failed, and nothing is known of the answer. Some are said; many end the work."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli.console import log
from progrpo_cli.tasks.base import Verdict

LARGEST_SHARE = 0.01
"""Of a batch. Above it numbers would be those of a judge that does not work; at or below it the work goes on."""


class JudgeErrors:
    """Those of a training run in this process."""

    def __init__(self) -> None:
        self.too_many: str | None = None
        """What to say of the first batch that had more than its share; None: go on."""

    def look(self, verdicts: Sequence[Verdict], what: str) -> None:
        """Count those of a batch and say so; ``what`` names it."""
        errors = verdicts.count("error")
        if not errors:
            return
        told = (
            f"{what}: the judge failed on {errors} of {len(verdicts)} completions (verdict `error`), which earn nothing"
        )
        log.warning(told)
        if errors > LARGEST_SHARE * len(verdicts):
            self.too_many = self.too_many or told
