"""A report draws the curves that methods declare, and knows no method by name."""

import ast
import csv
import json
from pathlib import Path

import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli import reporting
from progrpo_cli.methods.base import ArmConfig
from progrpo_cli.methods.registry import method_classes
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.reading.record import CURVES, curve_names, method_of_curve
from progrpo_cli.reporting.reading.sources import read

ARM = tuple(f"arm/{name}" for name in ArmConfig.logged)


def write(path: Path, *overrides: str) -> RunDirectory:
    return write_run(path, *overrides, scores=[make_scores(seed=1, rate=0.5)], wandb="disabled", steps=3)


def drawn_metrics(out: Path, name: str) -> set[str]:
    with (out / "figures" / f"{name}.csv").open() as file:
        return {line["metric"] for line in csv.DictReader(file)}


def test_each_method_has_a_figure_of_its_declared_curves(tmp_path: Path) -> None:
    for method in ("grpo", "flowrl", "clip_cov", "progrpo"):
        write(tmp_path / "runs" / method, f"method={method}")
    build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert drawn_metrics(tmp_path / "out", "flowrl") == {"flowrl/log_partition", "flowrl/residual"}
    assert drawn_metrics(tmp_path / "out", "clip_cov") == {"clip_cov/candidate_fraction"}
    assert drawn_metrics(tmp_path / "out", "arm") == {"arm/shift_std"}
    assert not (tmp_path / "out" / "figures" / "grpo.csv").exists()


def test_a_run_without_declarations_uses_those_of_the_shipped_method(tmp_path: Path) -> None:
    for method in ("flowrl", "progrpo"):
        run = write(tmp_path / "runs" / method, f"method={method}")
        manifest = json.loads(run.manifest_path.read_text())
        del manifest["curves"]
        run.manifest_path.write_text(json.dumps(manifest))
    build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert drawn_metrics(tmp_path / "out", "flowrl") == {"flowrl/log_partition", "flowrl/residual"}
    assert drawn_metrics(tmp_path / "out", "arm") == {"arm/shift_std"}


def test_a_method_that_is_not_installed_is_drawn_from_its_manifest(tmp_path: Path) -> None:
    run = write(tmp_path / "runs" / "one", "method=flowrl")
    for path in (run.manifest_path, run.config_path, run.metrics_path):
        path.write_text(path.read_text().replace("flowrl", "mine"))
    build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert drawn_metrics(tmp_path / "out", "mine") == {"mine/log_partition", "mine/residual"}


def test_a_method_does_not_overwrite_a_figure_of_every_report(tmp_path: Path) -> None:
    run = write(tmp_path / "runs" / "one", "method=flowrl")
    for path in (run.manifest_path, run.config_path, run.metrics_path):
        path.write_text(path.read_text().replace("flowrl", "entropy"))
    build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert drawn_metrics(tmp_path / "out", "entropy") == {"entropy"}
    assert drawn_metrics(tmp_path / "out", "entropy-curves") == {"entropy/log_partition", "entropy/residual"}


@pytest.mark.parametrize("name", ["../x/y", "/etc/x", "x/../y", "x", "X/y", "x/y/z", "x/y\n", "x" * 50 + "/y", 5, None])
def test_invalid_curve_names_are_dropped(name: object) -> None:
    assert curve_names({"progrpo": {"curves": [name, "mine/ok"]}}) == (*CURVES, "mine/ok")
    assert len(curve_names({"progrpo": {"curves": [f"mine/{number}" for number in range(1000)]}})) < 50


def test_curves_without_a_declaration() -> None:
    assert curve_names({}) == CURVES
    assert curve_names({"method": {"name": "progrpo", "arm": {"alpha": 1.0}}, "train": {"group_size": 8}}) == (
        *(*CURVES, *ARM),
        "pass@8",
    )
    assert curve_names({"method": {"name": "mine", "arm": None}}) == CURVES
    assert [method_of_curve(name) for name in ("pass@1", "entropy", "arm/shift_std")] == [None, None, "arm"]


def test_no_module_of_the_report_names_a_method() -> None:
    names = {*method_classes()}
    for path in Path(reporting.__file__).parent.rglob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not texts & (names - {"progrpo"}), path  # also the name of this package


def test_declared_curves_are_read(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "one", "method=flowrl")
    (run,) = read([str(tmp_path / "runs")]).runs
    assert run.curves.values["flowrl/log_partition"].tolist() == [0.1, 0.2, 0.3]
