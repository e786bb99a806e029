"""Where everything of a run and of a study is; nobody else builds these paths."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "manifest.json"
"""What makes a directory a run's."""
SCORES, SAMPLES = "scores.json", "samples.jsonl"
"""The files of an evaluation's directory."""
STUDY = "study.yaml"
"""The frozen plan of a study: what makes a directory a study's."""


class Layout:
    """The paths of a run; docs/files.md says what is in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.config_path = path / "config.yaml"
        self.manifest_path = path / MANIFEST
        self.metrics_path = path / "metrics.jsonl"
        self.trained_on_path = path / "trained_on.json"
        self.checkpoints = path / "checkpoints"
        self.policy = path / "policy"
        self.evaluations = path / "eval"  # a directory an evaluation
        self.completions = path / "completions"
        self.failures = path / "failed"
        self.wandb = path / "wandb"

    def scores_files(self) -> list[Path]:
        """The ``scores.json`` of every evaluation that has been scored, by the names of their directories."""
        return sorted(self.evaluations.glob(f"*/{SCORES}"))
