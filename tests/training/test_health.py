"""A run that goes wrong says so: once each, after so many updates in a row, and not again after a resume."""

from typing import Any

import pytest

from progrpo_cli.config.schema import HealthConfig
from progrpo_cli.training.health import Health

LIMITS = HealthConfig(entropy_floor=0.1, entropy_updates=3, no_variance_updates=2)
FINE = {"entropy": 0.5, "zero_variance_fraction": 0.5, "truncated_fraction": 0.0}


def said(records: list[dict[str, Any]], earlier: int = 0) -> list[tuple[int, str]]:
    """(update, title) of what is said of records numbered from 1, of which ``earlier`` ones were logged before."""
    numbered = [{"step": step, **FINE, **record} for step, record in enumerate(records, start=1)]
    found = []
    now = [0]
    health = Health(LIMITS, lambda title, text: found.append((now[0], title)), numbered[:earlier])
    for record in numbered[earlier:]:
        now[0] = record["step"]
        health.look(record)
    return found


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
def test_each_is_said_once_after_so_many_in_a_row(records: list[dict], expected: list[tuple[int, str]]) -> None:
    assert said(records) == expected


@pytest.mark.parametrize(("earlier", "expected"), [(2, [(3, "entropy is low")]), (3, []), (4, [])])
def test_a_resumed_run_counts_on_and_says_nothing_twice(earlier: int, expected: list[tuple[int, str]]) -> None:
    assert said([LOW] * 5, earlier) == expected
