"""From Hydra's overrides to a typed configuration, with one clear line for everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from progrpo_cli.config import paths, versions
from progrpo_cli.config.plain_yaml import refuse_what_is_not_data
from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.methods.registry import method_classes
from progrpo_cli.tasks.config import KINDS

GROUPS = ("experiment", "method", "model", "task")


def compose(overrides: Sequence[str] = (), experiment: str | None = None) -> Config:
    """Compose ``experiments/`` with the overrides.

    Args:
        overrides: Hydra's grammar: ``method=grpo``, ``method.arm.alpha=0.3``.
        experiment: the same as the override ``experiment=NAME``.

    Raises:
        RequestError: an unknown key, group or name (the nearest valid one is named), a wrong type or value.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if experiment is not None:
        overrides = [f"experiment={experiment}", *overrides]
    checked = [_checked(override) for override in overrides]
    try:
        with initialize_config_dir(config_dir=str(paths.EXPERIMENTS), version_base="1.3"):
            of_arm = [override for override, key in checked if key.startswith("method.arm.")]
            groups = [override for override, key in checked if key in GROUPS]
            everything = [override for override, _ in checked]
            if of_arm and (method := hydra_compose("config", overrides=groups).method).arm is None:
                if not method_classes()[method.name].takes_arm:
                    takers = ", ".join(sorted(name for name, cls in method_classes().items() if cls.takes_arm))
                    raise RequestError(f"{of_arm[0].lstrip('+')!r}: {method.name} has no ARM; these take it: {takers}")
                everything = ["++method.arm={}", *everything]
            composed = hydra_compose("config", overrides=everything)
        resolved = OmegaConf.to_container(composed, resolve=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(f"configuration: {_one_line(error)}") from error
    refuse_what_is_not_data(resolved, "configuration")  # however an override was quoted: nothing is resolved
    config = validate(resolved)
    versions.refuse_set(resolved, config)
    return versions.of_code(config)


def validate(resolved: Any) -> Config:
    """Type-check a resolved configuration, e.g. the frozen ``config.yaml`` of a run.

    Raises:
        RequestError: naming the first key that is wrong, what it holds and what it takes.
    """
    try:
        return Config.model_validate(resolved)
    except ValidationError as error:
        first = error.errors()[0]
        where = list(first["loc"])
        tags = {"method": [*method_classes()], "task": [*KINDS]}
        if where[1:2] != [] and where[1] in tags.get(str(where[0]), []):
            del where[1]  # which class of methods or tasks pydantic took is not part of the key
        key = ".".join(str(part) for part in where) or "configuration"
        given = first["input"]
        expected = first.get("ctx", {}).get("expected", "")
        if first["type"] == "literal_error" and isinstance(given, str):
            choices = [choice.strip().strip("'") for choice in expected.replace(" or ", ", ").split(",")]
            raise RequestError(f"{key}={given}: not a valid value{nearest(given, choices)}") from error
        if first["type"] == "extra_forbidden":
            raise RequestError(f"{key}: unknown key{_who_has(key)}") from error
        shown = "" if isinstance(given, Mapping) else f"={given}"
        raise RequestError(f"{key}{shown}: {first['msg'].removeprefix('Value error, ')}") from error


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every configuration key that holds a value in some configuration, e.g. ``method.arm.alpha``."""
    found: dict[str, None] = {}
    for name, field in model.model_fields.items():
        sections = _sections(field.annotation)
        if not sections or (not field.is_required() and field.default is None):  # a section left out unless asked for
            found[prefix + name] = None
        for section in sections:
            found.update(dict.fromkeys(keys(section, f"{prefix}{name}.")))
    return list(found)


def _who_has(key: str) -> str:
    """The methods or kinds of tasks whose option the key is, or the nearest key there is."""
    methods = [name for name, cls in method_classes().items() if key in keys(cls, "method.")]
    if methods:
        return f"; it belongs to method={' and method='.join(methods)}"
    kinds = [kind for kind, section in KINDS.items() if key in keys(section, "task.")]
    return f"; it belongs to tasks of kind {' and '.join(kinds)}" if kinds else nearest(key, keys())


def _sections(annotation: object) -> list[type[BaseModel]]:
    """The sections that an annotation allows: itself, or the parts of a union, tagged or not."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _checked(override: str) -> tuple[str, str]:
    """The override in the form that Hydra takes, and its key."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if "${" in override:
        raise RequestError(f"{override!r}: interpolations are not taken from the command line")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise RequestError(f"{override!r} is not KEY=VALUE: {_one_line(error)}") from error
    key = parsed.key_or_group
    if parsed.package is not None:
        raise RequestError(f"{override!r}: packages (`@`) are not taken from the command line")
    if parsed.is_delete():
        raise RequestError(f"{override!r}: keys cannot be deleted")
    if parsed.is_sweep_override():
        raise RequestError(f"{override!r} has several values: one run takes one; see `progrpo sweep`")
    if key in GROUPS:
        valid, value = paths.names(paths.EXPERIMENTS / key), str(parsed.value())
        if value not in valid:
            raise RequestError(f"unknown {key} {value!r}{nearest(value, valid)}")
        return f"{key}={value}", key
    if key in ("method.name", "task.kind"):
        raise RequestError(f"{override!r}: a {key.split('.')[0]} is chosen with {key.split('.')[0]}=NAME")
    if key not in (valid := keys()):
        raise RequestError(f"unknown key {key!r}{nearest(key, [*valid, *GROUPS])}")
    return f"++{override.lstrip('+')}", key


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
