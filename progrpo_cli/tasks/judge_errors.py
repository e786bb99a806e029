"""The verdict ``error``: our judge failed. A few errors are reported; many stop the training."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli.console import log
from progrpo_cli.tasks.base import Verdict

LARGEST_SHARE = 0.01
"""The largest share of errors in a batch. With more, the numbers would measure a broken judge."""


class JudgeErrors:
    """The judge's errors in a training run, in this process."""

    def __init__(self) -> None:
        self.too_many: str | None = None
        """The warning of the first batch with more than ``LARGEST_SHARE``; None if there was no such batch."""

    def count(self, verdicts: Sequence[Verdict], batch: str) -> None:
        """Count the errors in a batch and warn of them; ``batch`` is its name in the warning."""
        errors = verdicts.count("error")
        if not errors:
            return
        message = (
            f"{batch}: the judge failed on {errors} of {len(verdicts)} completions (verdict `error`); they earn nothing"
        )
        log.warning(message)
        if errors > LARGEST_SHARE * len(verdicts):
            self.too_many = self.too_many or message
