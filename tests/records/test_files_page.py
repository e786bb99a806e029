"""docs/files.md lists the fields of the models of all files, and the models have every field that is written."""

import re
from pathlib import Path

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.evaluation.scores_file import Scores
from progrpo_cli.records.identity import Identity
from progrpo_cli.records.lines import MetricsLine, SampleLine
from progrpo_cli.records.manifest import Manifest
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.entry import Entry, RunResult

PAGE = Path(__file__).resolve().parents[2] / "docs/files.md"


def listed_fields(title: str) -> list[str]:
    """Return the first column of the table in a section of the page."""
    (section,) = re.findall(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "fields"),
    [
        ("`manifest.json`", Manifest.__annotations__),
        ("`metrics.jsonl`", MetricsLine.__annotations__),
        ("`samples.jsonl`", SampleLine.__annotations__),
        ("`scores.json`", Scores.model_fields),
        ("W&B", Identity.model_fields),
        ("The ledger", Entry.model_fields.keys() - {"held"}),
        ("The result of a run", RunResult.__annotations__),
    ],
)
def test_the_page_lists_the_fields_of_the_model(title: str, fields: dict) -> None:
    names = listed_fields(title)
    assert sorted(names) == sorted(fields)
    assert len(set(names)) == len(names)


def test_a_manifest_has_only_fields_of_its_model(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(compose(), model="progrpo/lab-base", study=None, sources={})
    assert set(run.manifest()) <= set(Manifest.__annotations__)
    assert set(Manifest.__annotations__) - set(run.manifest()) == {
        "budget",
        "config_signature",
        "device",
        "processes",
        "sources_since",
        "taken_back",
    }
    assert set(run.identity()) <= set(Identity.model_fields)


def test_metrics_have_only_fields_of_their_model() -> None:
    from progrpo_cli.training.callbacks import ROLLOUT_METRICS, UPDATE_METRICS
    from progrpo_cli.training.sample_totals import SampleTotals

    written = {*ROLLOUT_METRICS.values(), *UPDATE_METRICS.values(), *SampleTotals().totals}
    assert written <= set(MetricsLine.__annotations__)
