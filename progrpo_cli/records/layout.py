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
    """The paths of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest_path(self) -> Path:
        return self.path / MANIFEST

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def trained_on_path(self) -> Path:
        """The training problems, as fingerprints of their questions."""
        return self.path / "trained_on.json"

    @property
    def evaluations(self) -> Path:
        """Where each evaluation of the policy has a directory."""
        return self.path / "eval"

    @property
    def completions(self) -> Path:
        """The tables of the last rollouts."""
        return self.path / "completions"

    @property
    def failures(self) -> Path:
        """The batches of updates that were not finite."""
        return self.path / "failed"

    @property
    def wandb(self) -> Path:
        """W&B's own files."""
        return self.path / "wandb"

    def scores_files(self) -> list[Path]:
        """The ``scores.json`` of every evaluation that has been scored, by the names of their directories."""
        return sorted(self.evaluations.glob(f"*/{SCORES}"))
