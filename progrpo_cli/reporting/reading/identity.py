"""The identity of a run: its method, its settings and the code that made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from progrpo_cli.config.hashing import is_hashed, with_defaults
from progrpo_cli.config.values import comparison_text, flat_items
from progrpo_cli.evaluation.scores_file import short_error
from progrpo_cli.methods.registry import label
from progrpo_cli.records.identity import Identity
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.record import RunRecord


@dataclass(frozen=True)
class ReportedRun:
    """A run with a known identity."""

    record: RunRecord
    identity: Identity
    method: str
    """The method's label, see :func:`progrpo_cli.methods.registry.label`; the name of a model."""
    settings: dict[str, Any]
    """Hashed settings without the seed, flattened: ``{"method.arm.alpha": 0.3}``. Empty for a model."""

    @property
    def is_model(self) -> bool:
        """Whether this is a policy that no run trained."""
        return self.identity.kind == "model"

    @property
    def row(self) -> tuple[str, str]:
        """Key of the table row: runs with equal keys are seeds of one configuration."""
        return (self.method, self.identity.config_hash)

    @property
    def policy(self) -> tuple[object, ...]:
        """Key of the policy. A model is one policy whatever its seed, which only concerns sampling."""
        return (self.method,) if self.is_model else (*self.row, self.identity.seed)


def identify(record: RunRecord, loaded: LoadedRuns) -> ReportedRun | None:
    """Read the identity of a run; None, with a note, if it is not a run of this package."""
    if "progrpo" not in record.config:
        loaded.note(f"{record.path} skipped: run {record.name} is of another project, or its configuration was lost")
        return None
    try:
        identity = Identity.model_validate(record.config["progrpo"])
        configuration = {name: section for name, section in record.config.items() if name != "progrpo"}
        settings = {key: value for key, value in flat_items(with_defaults(configuration)) if is_hashed(key)}
        method_label = label(str(record.config["method"]["name"]), settings.get("method.arm.alpha"))
        _check_settings(settings)
    except (ValidationError, KeyError, TypeError, OverflowError) as error:
        loaded.note(f"{record.path} skipped: the record of run {record.name} is incomplete ({short_error(error)})")
        return None
    method = identity.model if identity.kind == "model" else method_label
    return ReportedRun(record, identity, method, settings if identity.kind == "run" else {})


def note_versions(runs: Sequence[ReportedRun], loaded: LoadedRuns) -> None:
    """Note if the runs were made by different versions or commits of this package."""
    for kind, versions in (
        ("versions of progrpo", [run.identity.version for run in runs]),
        ("commits", [(run.identity.commit or "unknown")[:12] for run in runs]),
    ):
        counts = {version: versions.count(version) for version in dict.fromkeys(versions)}
        if len(counts) > 1:
            described = ", ".join(f"{version} ({count} runs)" for version, count in sorted(counts.items()))
            loaded.note(f"the runs were made by different {kind}: {described}")


def differing_settings(runs: Iterable[ReportedRun]) -> list[str]:
    """The sorted configuration keys whose values differ between these runs."""
    configurations = list({run.row: run.settings for run in runs}.values())
    keys = sorted({key for settings in configurations for key in settings})
    return [key for key in keys if len({comparison_text(settings.get(key)) for settings in configurations}) > 1]


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse values that cannot be compared.

    Raises:
        TypeError: the path of the model is not text.
        OverflowError: a number is too large for a float.
    """
    if not isinstance(path := settings.get("model.path", ""), str):
        raise TypeError(f"model.path is {path!r}, not text")
    for value in settings.values():
        if isinstance(value, int):
            float(value)
