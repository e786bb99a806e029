"""Health warnings are given once, after a number of updates in a row, and not again after a resume."""

from typing import Any

import pytest

from progrpo_cli.config.schema import HealthConfig
from progrpo_cli.training.health import Health

LIMITS = HealthConfig(entropy_floor=0.1, entropy_updates=3, no_variance_updates=2)
FINE = {"entropy": 0.5, "zero_variance_fraction": 0.5, "truncated_fraction": 0.0}


def warnings_of(records: list[dict[str, Any]], earlier: int = 0) -> list[tuple[int, str]]:
    """(update, title) of the warnings for records numbered from 1, the first ``earlier`` of them logged before."""
    numbered = [{"step": step, **FINE, **record} for step, record in enumerate(records, start=1)]
    warnings = []
    now = [0]
    health = Health(LIMITS, lambda title, text: warnings.append((now[0], title)), numbered[:earlier])
    for record in numbered[earlier:]:
        now[0] = record["step"]
        health.check(record)
    return warnings


LOW, FLAT, CUT = {"entropy": 0.09}, {"zero_variance_fraction": 1.0}, {"truncated_fraction": 1.0}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([{}] * 5, []),
        ([LOW, LOW], []),
        ([LOW, LOW, LOW, LOW, {}, LOW, LOW, LOW], [(3, "entropy is low")]),
        ([LOW, LOW, {}, LOW, LOW, LOW], [(6, "entropy is low")]),
        ([{"entropy": 0.1}] * 4, []),
        ([{"entropy": None}] * 4, []),
        ([FLAT, {}, FLAT, FLAT], [(4, "no group has variance")]),
        ([{"zero_variance_fraction": 0.99}] * 4, []),
        ([{"truncated_fraction": 0.5}] * 2, []),
        ([{"truncated_fraction": 0.51}] * 2, [(1, "many completions are truncated")]),
        ([CUT, CUT], [(1, "all completions are truncated")]),
        ([LOW | FLAT | CUT] * 3, [(1, "all completions are truncated"), (2, "no group has variance")]
         + [(3, "entropy is low")]),
    ],
)  # fmt: skip
def test_a_warning_is_given_once_after_enough_updates_in_a_row(
    records: list[dict], expected: list[tuple[int, str]]
) -> None:
    assert warnings_of(records) == expected


@pytest.mark.parametrize(("earlier", "expected"), [(2, [(3, "entropy is low")]), (3, []), (4, [])])
def test_a_resumed_run_continues_counting_and_repeats_no_warning(earlier: int, expected: list[tuple[int, str]]) -> None:
    assert warnings_of([LOW] * 5, earlier) == expected
