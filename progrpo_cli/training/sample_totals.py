"""Totals of the samples and tokens that a run has drawn for training, over all processes; saved in its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from progrpo_cli.records import files
from progrpo_cli.untrusted import read_text

FILE = "drawn.json"


class SampleTotals:
    """Running totals. They stay unknown in a run that continues from a checkpoint without them."""

    def __init__(self) -> None:
        self._samples = self._tokens = 0
        self._is_known = True

    def count(self, accelerator: Accelerator, completions: Sequence[Sequence[int]]) -> None:
        """Add the completions of all processes. Collective.

        Args:
            accelerator: sums over processes.
            completions: token ids of this process's completions.
        """
        counts = torch.tensor([len(completions), sum(map(len, completions))], device=accelerator.device)
        samples, tokens = accelerator.reduce(counts).tolist()
        self._samples += samples
        self._tokens += tokens

    @property
    def totals(self) -> dict[str, float | None]:
        """The totals by metric name; None if unknown."""
        return {
            "samples_drawn": self._samples if self._is_known else None,
            "tokens_drawn": self._tokens if self._is_known else None,
        }

    def save(self, checkpoint: Path) -> None:
        """Write the totals into a checkpoint."""
        files.write_json(checkpoint / FILE, self.totals)

    def load(self, checkpoint: Path) -> None:
        """Continue from the totals of a checkpoint."""
        try:
            saved = json.loads(read_text(checkpoint / FILE))
            self._samples, self._tokens = int(saved["samples_drawn"]), int(saved["tokens_drawn"])
        except (OSError, ValueError, KeyError, TypeError):  # written by a version that did not count
            self._is_known = False
