"""The paths within the directories of runs and studies. No other module builds them."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "manifest.json"
"""The file by which the directory of a run is recognised."""
SCORES, SAMPLES = "scores.json", "samples.jsonl"
"""The files in the directory of an evaluation."""
STUDY = "study.yaml"
"""The frozen plan of a study, by which its directory is recognised."""


class Layout:
    """The paths of a run. docs/files.md describes their content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.config_path = path / "config.yaml"
        self.manifest_path = path / MANIFEST
        self.metrics_path = path / "metrics.jsonl"
        self.trained_on_path = path / "trained_on.json"
        self.checkpoints = path / "checkpoints"
        self.policy = path / "policy"
        self.evaluations = path / "eval"  # it has a directory for each evaluation
        self.completions = path / "completions"
        self.failures = path / "failed"
        self.wandb = path / "wandb"

    def scores_files(self) -> list[Path]:
        """Return the ``scores.json`` of every scored evaluation, sorted by directory name."""
        return sorted(self.evaluations.glob(f"*/{SCORES}"))
