import csv
import json
import logging
import shutil

import pandas as pd
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli import escape
from progrpo_cli.commands.report import print_report
from progrpo_cli.errors import RequestError
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.rendering import figure_style, render

HOSTILE = "=cmd|'/c calc'!A1 \x1b[31m[bold]$x_1$ & 100% | <b>\u202e\n#{}~^\\"


def _table(name="main", **columns):
    frame = pd.DataFrame({"method": [HOSTILE, "grpo"], "task": ["t", "t"], **columns})
    return Table(name, f"Title {HOSTILE}", frame, (), None, (f"caption {HOSTILE}",))


def test_the_files_of_a_report(lab, tmp_path):
    result = build_report([str(lab)], out=tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    tables = ("main", "ablation-method.arm.alpha", "provenance")
    figures = ("pass_at_k", "plane", "entropy", "pass_at_1", "arm", "ablation-method.arm.alpha")
    expected = [f"{table}.{ending}" for table in tables for ending in ("md", "tex", "csv")]
    expected += ["published.csv", "frame.csv", "index.html"]
    expected += [f"figures/{figure}.{ending}" for figure in figures for ending in ("png", "pdf", "csv")]
    assert names == sorted(expected)
    assert sorted(result.files) == sorted(tmp_path / name for name in names)
    for figure in figures:
        assert (tmp_path / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "figures" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    assert str(lab) not in (tmp_path / "main.csv").read_text()
    assert str(lab) in (tmp_path / "provenance.csv").read_text()


def test_figures_have_200_dpi_and_the_width_of_a_column(lab, tmp_path):
    from PIL import Image

    build_report([str(lab)], out=tmp_path, formats=["csv"])
    for path in (tmp_path / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
            assert image.width == 3.5 * 200
            assert len(image.convert("RGB").getcolors(maxcolors=10**6)) > 10  # the image is not empty


def test_only_numeric_sweeps_have_figures(tmp_path):
    for gate in ("any_correct", "mixed"):
        scores = [make_scores(seed=1, rate=0.5)]
        write_run(tmp_path / "runs" / gate, f"method.arm.gate={gate}", scores=scores, wandb="disabled", steps=0)
    build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert (tmp_path / "out" / "ablation-method.arm.gate.csv").exists()
    drawn = sorted(path.name for path in (tmp_path / "out" / "figures").glob("*.png"))
    assert drawn == ["pass_at_k.png", "plane.png"]


def test_a_second_report_changes_nothing_and_names_leftovers(lab, tmp_path):
    build_report([str(lab)], out=tmp_path)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    build_report([str(lab)], out=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first
    result = build_report([str(lab / "grpo-s0")], out=tmp_path, formats=["csv"])
    leftovers = [note for note in result.notes if "belongs to an earlier report" in note]
    assert any("ablation-method.arm.alpha.csv" in note for note in leftovers)
    assert any("main.md" in note for note in leftovers)
    assert not any("main.csv" in note for note in leftovers)


def test_csv_escapes_formulas_but_not_numbers():
    rows = list(csv.reader(render.csv_text(_table(delta=[-0.5, 1 / 3], note=["+1", "  @x"])).splitlines()))
    assert rows[1][0].startswith("'=cmd|")
    assert [row[2] for row in rows[1:]] == ["-0.5", "0.333333"]
    assert [row[3] for row in rows[1:]] == ["'+1", "'  @x"]


def test_all_formats_drop_control_characters(capsys):
    table = _table()
    render.to_terminal(table, [HOSTILE])
    for text in (
        render.csv_text(table),
        render.markdown([table], [HOSTILE]),
        render.latex([table]),
        capsys.readouterr().out,
    ):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "cmd" in text


def test_brackets_are_text_on_the_terminal(capsys):
    render.to_terminal(_table(), [])
    assert "[bold]" in capsys.readouterr().out


def test_markdown_cells_are_escaped():
    lines = [line for line in render.markdown([_table()], []).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {len(line.replace("\\\\", "").replace("\\|", "").split("|")) for line in lines} == {4}
    assert "<b>" not in "".join(lines).replace("\\<b\\>", "")


def test_latex_special_characters_are_escaped():
    escaped = escape.latex(r"a_b & 100% $x$ #1 {y} ~ ^ \ [z]")
    assert escaped == (r"a\_b \& 100\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{} {[}z{]}")


def test_latex_tables_are_booktabs(lab, tmp_path):
    build_report([str(lab)], out=tmp_path, formats=["tex"])
    text = (tmp_path / "main.tex").read_text()
    rules = [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert rules == [3, 3, 3]  # values, differences, published
    rows = [line for line in text.splitlines() if line.startswith("grpo &")]
    assert len(rows) == 1  # the baseline is in the values only
    assert rows[0].count(" & ") == 5


def test_the_command_prints_tables_with_sources_and_interval_method(lab, tmp_path, capsys):
    print_report([str(lab)], out=tmp_path)
    out = capsys.readouterr().out
    value = pd.read_csv(tmp_path / "main.csv").set_index("method").loc["grpo"]
    assert f"{value['pass@8']:.3f} [{value['pass@8_low']:.3f}, {value['pass@8_high']:.3f}]" in out
    for expected in ("Ablation of method.arm.alpha", "7 runs read from", "crossed", "n = 16", "Fewer than 5 seeds"):
        assert expected in out


def test_json_is_one_document(lab, tmp_path, capsys):
    print_report([str(lab)], out=tmp_path, formats=["csv"], k=[1], as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert sorted(document) == ["files", "main", "notes", "out"]
    assert [row["method"] for row in document["main"]][:2] == ["base", "grpo"]
    assert document["main"][1]["pass@1_diff"] is None
    assert document["main"][0]["pass@1_diff"] < 0
    assert document["main"][0]["seeds"] == 1
    assert str(tmp_path / "main.csv") in document["files"]


def test_without_term_nothing_is_printed(lab, tmp_path, capsys):
    print_report([str(lab)], out=tmp_path, formats=["md"])
    assert capsys.readouterr().out == ""


def test_the_default_directory_is_report(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lab / "grpo-s0", tmp_path / "runs" / "grpo-s0")
    print_report([], formats=["csv"])
    assert (tmp_path / "report" / "main.csv").exists()


def test_an_unknown_format_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(RequestError, match=r"unknown format 'htm'.*term, md, tex, csv, html"):
        build_report(["nowhere"], out=tmp_path / "out", formats=["csv", "htm"])
    assert not (tmp_path / "out").exists()


def test_the_terminal_shows_pass_at_k_as_bars(lab, tmp_path, no_figures):
    result = build_report([str(lab)], out=tmp_path)
    lines = result.terminal_figure
    assert lines[0] == "Pass@k over k, countdown (test split)"
    base = result.main.frame.query("method == 'base' and split == 'test'").iloc[0]
    base_lines = [line for line in lines if " base " in line]
    assert base_lines[0].endswith(f"{base['pass@1']:.3f} [{base['pass@1_low']:.3f}, {base['pass@1_high']:.3f}]")
    bars = [line.count("█") for line in base_lines]
    assert bars == sorted(bars)  # Pass@k grows with k
    assert bars[-1] > bars[0]


def test_hostile_names_in_notes_are_escaped(caplog):
    loaded = LoadedRuns()
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        loaded.note(f"{HOSTILE} skipped")
    assert "skipped" in caplog.text
    for text in (*loaded.notes, *(record.getMessage() for record in caplog.records)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\n" not in text


@pytest.mark.parametrize("ns", [(16, 64), (64, 16)])
def test_the_terminal_shows_each_row_up_to_its_own_n(tmp_path, no_figures, ns):
    for seed, (method, n) in enumerate(zip(("grpo", "progrpo"), ns, strict=True)):
        scores = [make_scores(seed=seed, rate=0.5, n=n)]
        write_run(tmp_path / "runs" / method, f"method={method}", scores=scores, wandb="disabled", steps=0)
    lines = build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"]).terminal_figure
    more, fewer = ("grpo ", "progrpo ") if ns[0] == 64 else ("progrpo ", "grpo ")
    (last,) = [line for line in lines if line.startswith("k = 64")]
    assert f" {more}" in last
    assert len([line for line in lines if f" {more}" in line]) == 4  # k = 1, 4, 16, 64
    assert len([line for line in lines if f" {fewer}" in line]) == 3


def test_names_of_tasks_and_splits_are_escaped_in_figures_and_terminal(tmp_path):
    hostile = {"task": "t\x1b[31m$\\frac$", "split": "$\\frac$\x1b[2J"}
    for seed, method in enumerate(("grpo", "progrpo")):
        scores = make_scores(seed=seed, rate=0.5)
        run = write_run(tmp_path / "runs" / method, f"method={method}", scores=[scores], wandb="disabled", steps=2)
        (file,) = run.path.glob("eval/*/scores.json")
        file.write_text(json.dumps({**scores, **hostile}))
    result = build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert (tmp_path / "out" / "figures" / "plane.png").exists()
    assert result.terminal_figure[0] == "Pass@k over k, t[31m$\\frac$ ($\\frac$[2J split)"
    assert all(line.isprintable() for line in result.terminal_figure)


def test_a_k_of_a_split_without_figures_prevents_no_figure(tmp_path):
    scores = [make_scores(seed=1, rate=0.5, n=4, k=[1]), make_scores(seed=2, rate=0.5, split="validation")]
    write_run(tmp_path / "runs" / "r", "method=grpo", scores=scores, wandb="disabled", steps=0)
    result = build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert result.main.metrics[:2] == ("pass@1", "pass@8")
    assert [path.name for path in (tmp_path / "out" / "figures").glob("*.png")] == ["pass_at_k.png"]


def test_the_legend_has_the_lines_of_all_panels():
    from matplotlib.figure import Figure

    first, second, third = Figure().subplots(3)
    first.plot([0], [0], label="base")
    for panel, name in ((second, "base"), (second, "grpo"), (third, "grpo"), (third, "dapo"), (third, "dapo")):
        panel.plot([0], [0], label=name)
    handles, names = figure_style.merge_legends([first, second, third])
    assert names == ["base", "grpo", "dapo", "dapo"]  # two lines of one panel are both kept
    assert handles == [first.lines[0], second.lines[1], *third.lines[1:]]


def test_letters_missing_in_tex_fonts_become_code_points():
    assert escape.latex("ÄčŁőß") == "ÄčŁőß"
    for letter in "ĦħĸĿŀŉŦŧſ漢":
        assert escape.latex(letter) == rf"{{[}}U+{ord(letter):04X}{{]}}"
