"""The page as text; test_page_in_chromium.py opens it in a browser."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest
from made_up_runs import make_scores, write_run
from test_report_output import HOSTILE

from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.rendering.figures import ReportFigure
from progrpo_cli.reporting.rendering.page import Content, render_page

HOSTILE_HTML = HOSTILE + '</td></style><script>alert(1)</script><img src=x onerror=alert(1)>"\' onclick="alert(1)'


class _Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def report(lab, tmp_path_factory):
    return build_report([str(lab)], out=tmp_path_factory.mktemp("page"), formats=["html"])


@pytest.fixture(scope="module")
def text(report):
    return (report.out / "index.html").read_text()


def test_the_page_is_self_contained(text):
    elements = _Elements(text).elements
    sources = [value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")]
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in elements)


def test_headings_descend_by_one_level_and_images_have_alternative_texts(text):
    elements = _Elements(text).elements
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    pictures = [attributes for tag, attributes in elements if tag == "img"]
    assert len(pictures) == 6
    assert all(len(attributes["alt"]) > 40 for attributes in pictures)
    assert all(attributes["scope"] == "col" for tag, attributes in elements if tag == "th")
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    assert {attributes["href"][1:] for tag, attributes in elements if tag == "a"} <= ids


def test_the_summary_agrees_with_the_tables_and_has_caveats(report, text):
    text_of_page = " ".join(" ".join(_Elements(text).texts).split())
    best = report.main.frame.sort_values("pass@1").iloc[-1]
    assert f"{best['method']} has the highest pass@1, {best['pass@1']:.3f}" in text_of_page
    for expected in (
        "fewer than 5: intervals assume",
        "One task, countdown",
        "One model, progrpo/lab-base",
        "Several settings of one method",
        "differences to grpo have a corrected p <= 0.05",
        "7 runs read from",
    ):
        assert expected in text_of_page
    assert "progrpo report" in text_of_page


def test_a_report_without_html_has_no_page(lab, tmp_path):
    build_report([str(lab / "grpo-s0")], out=tmp_path, formats=["csv"])
    assert not (tmp_path / "index.html").exists()


def test_names_are_escaped_on_the_page(tmp_path):
    picture = tmp_path / "x.png"
    picture.write_bytes(b"png")
    frame = pd.DataFrame({"method": [HOSTILE_HTML], HOSTILE_HTML: [HOSTILE_HTML]})
    table = Table("main", HOSTILE_HTML, frame, (), None, (HOSTILE_HTML,))
    drawn = ReportFigure(picture, HOSTILE_HTML, HOSTILE_HTML, HOSTILE_HTML)
    lines = [HOSTILE_HTML]
    text = render_page(Content(lines, lines, [table], [drawn], table, {HOSTILE_HTML: HOSTILE_HTML}, lines))
    elements = _Elements(text).elements
    assert [tag for tag, _ in elements].count("script") == 1  # the page's own
    assert [tag for tag, _ in elements].count("img") == 1
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    assert text.count("&lt;script&gt;alert(1)") >= 10
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_hostile_name_is_escaped_in_all_formats(tmp_path):
    """The model's name is the only name in a run that comes from outside."""
    name = "evil/<script>alert(1)</script>$&%_"
    write_run(
        tmp_path / "runs" / "e",
        f"model.path='{name}'",
        kind="model",
        scores=[make_scores(seed=1, rate=0.5)],
        wandb="disabled",
    )
    result = build_report([str(tmp_path / "runs")], out=tmp_path / "out")
    assert result.main.frame["method"].tolist() == [name]
    page_text = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in page_text
    assert "evil/&lt;script&gt;" in page_text
    assert r"\$\&\%\_" in (tmp_path / "out" / "main.tex").read_text()
    assert "<script>" not in (tmp_path / "out" / "main.md").read_text().replace("\\<", "")
