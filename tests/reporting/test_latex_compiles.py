"""The tables in a real TeX (Debian's texlive-latex-base and texlive-latex-recommended)."""

import os
import shutil
import subprocess

import pandas as pd
import pytest
from test_report_output import HOSTILE

from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.rendering import render

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        shutil.which("pdflatex") is None and "PROGRPO_TEST_LONG" not in os.environ,
        reason="no pdflatex (Debian: texlive)",
    ),
]

DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


def test_every_table_compiles_hostile_names_included(lab, tmp_path):
    out = tmp_path / "out"
    build_report([str(lab)], out=out, formats=["tex"])
    letters = " ".join(map(chr, range(0x20, 0x181)))
    names = [HOSTILE + "漢字 🤖 \\input{/etc/passwd}", letters[:300], letters[300:]]
    frame = pd.DataFrame({"method": names, "value": ["^^41 `` --- ?`", "", ""]})
    (out / "hostile.tex").write_text(render.latex([Table("x_1", HOSTILE, frame, (), None, (HOSTILE,))]))
    tables = sorted(path.name for path in out.glob("*.tex"))
    assert tables == ["ablation-method.arm.alpha.tex", "hostile.tex", "main.tex", "provenance.tex"]
    (out / "paper.tex").write_text(DOCUMENT % "\n".join(rf"\input{{{name}}}" for name in tables))
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"],
        cwd=out,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (out / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert "root:" not in done.stdout
