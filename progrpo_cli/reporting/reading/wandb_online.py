"""Parse the source ``wandb:ENTITY/PROJECT[?filter]`` into a query."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from progrpo_cli.config.values import flat_items, format_value
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.tracking.tracked_run import TrackedRun
from progrpo_cli.tracking.wandb_server import Query

FILTERS = ("tag", "group", "state", "config.KEY")
_CONFIG = "config."


def parse(source: str) -> Query:
    """Parse e.g. ``ENTITY/PROJECT?tag=progrpo&group=arm_alpha&config.method.arm.alpha=0.3``; all filters must match.

    The server filters by tag, group and state. Configuration keys are compared on this side, with values formatted as
    in labels.

    Raises:
        RequestError: the source does not have this form.
    """
    path, _, text = source.partition("?")
    entity, _, project = path.partition("/")
    if not entity or not project or "/" in project:
        raise RequestError(f"wandb:{source}: expected wandb:ENTITY/PROJECT, e.g. wandb:my-team/progrpo?group=arm_alpha")
    conditions: list[dict[str, object]] = []
    settings: list[tuple[str, str]] = []
    for pair in filter(None, text.split("&")):  # parse_qsl would turn the plus of dr_grpo+arm into a space
        name, value = (unquote(part) for part in pair.partition("=")[::2])
        if name == "tag":
            conditions.append({"tags": {"$in": [value]}})
        elif name in ("group", "state"):
            conditions.append({name: value})
        elif name.startswith(_CONFIG):
            settings.append((name.removeprefix(_CONFIG), value))
        else:
            raise RequestError(
                f"wandb:{source}: unknown filter {name!r}{nearest(name, FILTERS)} (valid: {', '.join(FILTERS)})"
            )
    if text and not conditions and not settings:
        raise RequestError(f"wandb:{source}: expected NAME=VALUE after the question mark")
    return Query(
        entity, project, {"$and": conditions} if conditions else {}, lambda run: _matches(run, settings), settings
    )


def _matches(run: TrackedRun, settings: Sequence[tuple[str, str]]) -> bool:
    config = dict(flat_items(run.config))
    return all(key in config and value in (format_value(config[key]), str(config[key])) for key, value in settings)
