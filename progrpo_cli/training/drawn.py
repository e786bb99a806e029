"""How much a run has drawn to learn from, over all processes; kept in its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from progrpo_cli.records import files
from progrpo_cli.untrusted import read_text

FILE = "drawn.json"


class Drawn:
    """Running totals. They are unknown, and stay so, in a run that goes on from a checkpoint without them."""

    def __init__(self) -> None:
        self._samples = self._tokens = 0
        self._is_known = True

    def count(self, accelerator: Accelerator, completions: Sequence[Sequence[int]]) -> None:
        """Add completions of this process, each its token ids, and those of all others. Collective."""
        here = torch.tensor([len(completions), sum(map(len, completions))], device=accelerator.device)
        samples, tokens = accelerator.reduce(here).tolist()
        self._samples += samples
        self._tokens += tokens

    @property
    def totals(self) -> dict[str, float | None]:
        """By the names that metrics have; None: unknown."""
        return {
            "samples_drawn": self._samples if self._is_known else None,
            "tokens_drawn": self._tokens if self._is_known else None,
        }

    def save(self, checkpoint: Path) -> None:
        """Write the totals beside the weights that were learned from them."""
        files.write_json(checkpoint / FILE, self.totals)

    def load(self, checkpoint: Path) -> None:
        """Go on from the totals of a checkpoint."""
        try:
            held = json.loads(read_text(checkpoint / FILE))
            self._samples, self._tokens = int(held["samples_drawn"]), int(held["tokens_drawn"])
        except (OSError, ValueError, KeyError, TypeError):  # of a version that did not count
            self._is_known = False
