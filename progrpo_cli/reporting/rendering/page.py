"""The report as a self-contained HTML page, without network access or other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from progrpo_cli import __version__, escape
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.views import views
from progrpo_cli.reporting.rendering.figures import ReportFigure

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Content:
    """The contents of the page from top to bottom."""

    findings: Sequence[str]
    caveats: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[ReportFigure]
    provenance: Table
    commands: Mapping[str, str]
    """Command -> the heading above it."""
    notes: Sequence[str]


def render_page(content: Content) -> str:
    """Render the page. The template escapes all untrusted text, after control characters are dropped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def without_control_characters(value: object) -> object:
        return escape.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=without_control_characters,
    )
    environment.globals["views"] = views
    script, style = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    return environment.get_template("page.html.j2").render(
        content=content,
        version=__version__,
        images=[base64.b64encode(figure.path.read_bytes()).decode() for figure in content.figures],
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _hash(text: str) -> str:
    """A hash source for the page's Content-Security-Policy, which allows only this script and this style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
