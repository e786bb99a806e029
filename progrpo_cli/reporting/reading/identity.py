"""Who a run is: its method, its settings and the code that made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from progrpo_cli.config.hashing import is_hashed, with_defaults
from progrpo_cli.config.values import comparable, flat
from progrpo_cli.evaluation.scores_file import short_error
from progrpo_cli.methods.registry import label
from progrpo_cli.records.identity import Identity
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.record import RunRecord


@dataclass(frozen=True)
class ReportedRun:
    """A run whose identity is known."""

    record: RunRecord
    identity: Identity
    method: str
    """The method's label, see :func:`progrpo_cli.methods.registry.label`; of a model its own name."""
    settings: dict[str, Any]
    """Flat, ``{"method.arm.alpha": 0.3}``: what can change a number, without the seed. Empty for a model."""

    @property
    def is_model(self) -> bool:
        """Whether this is a policy that no run of ours trained."""
        return self.identity.kind == "model"

    @property
    def row(self) -> tuple[str, str]:
        """Runs with the same one are seeds of the same thing."""
        return (self.method, self.identity.config_hash)

    @property
    def policy(self) -> tuple[object, ...]:
        """Runs with the same one have trained the same policy. A model's seed is that of its sampling."""
        return (self.method,) if self.is_model else (*self.row, self.identity.seed)


def identify(record: RunRecord, loaded: LoadedRuns) -> ReportedRun | None:
    """The run, or None (and a note) where it is not one of ours."""
    if "progrpo" not in record.config:
        loaded.note(f"{record.path} skipped: run {record.name} is of another project, or its configuration was lost")
        return None
    try:
        identity = Identity.model_validate(record.config["progrpo"])
        configuration = {name: section for name, section in record.config.items() if name != "progrpo"}
        settings = {key: value for key, value in flat(with_defaults(configuration)) if is_hashed(key)}
        of_method = label(str(record.config["method"]["name"]), settings.get("method.arm.alpha"))
        _refuse_odd(settings)
    except (ValidationError, KeyError, TypeError, OverflowError) as error:
        loaded.note(f"{record.path} skipped: the record of run {record.name} is incomplete ({short_error(error)})")
        return None
    method = identity.model if identity.kind == "model" else of_method
    return ReportedRun(record, identity, method, settings if identity.kind == "run" else {})


def note_versions(runs: Sequence[ReportedRun], loaded: LoadedRuns) -> None:
    """Say so where the runs were made by different versions or commits of this package."""
    for what, versions in (
        ("versions of progrpo", [run.identity.version for run in runs]),
        ("commits", [(run.identity.commit or "unknown")[:12] for run in runs]),
    ):
        counts = {version: versions.count(version) for version in dict.fromkeys(versions)}
        if len(counts) > 1:
            described = ", ".join(f"{version} ({count} runs)" for version, count in sorted(counts.items()))
            loaded.note(f"the runs were made by different {what}: {described}")


def differing_settings(runs: Iterable[ReportedRun]) -> list[str]:
    """The configuration keys, sorted, that do not have the same value in all of these runs."""
    settings = list({run.row: run.settings for run in runs}.values())
    keys = sorted({key for held in settings for key in held})
    return [key for key in keys if len({comparable(held.get(key)) for held in settings}) > 1]


def _refuse_odd(settings: Mapping[str, Any]) -> None:
    """Values that nothing can be compared by.

    Raises:
        TypeError: the path of the model is no text.
        OverflowError: a number is too large for a float.
    """
    if not isinstance(path := settings.get("model.path", ""), str):
        raise TypeError(f"model.path is {path!r}, not text")
    for value in settings.values():
        if isinstance(value, int):
            float(value)
