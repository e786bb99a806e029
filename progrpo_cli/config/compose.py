"""Compose a typed configuration from Hydra's overrides, with a one-line message for every error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from progrpo_cli.config import folder, paths, versions
from progrpo_cli.config.demands import demands_of, describe
from progrpo_cli.config.folder import GROUPS
from progrpo_cli.config.plain_yaml import refuse_code
from progrpo_cli.config.schema import SHIPPED_CODE_ONLY, Config
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.methods.base import Method
from progrpo_cli.methods.registry import METHODS, method_classes
from progrpo_cli.tasks.config import KINDS, TaskConfig, kind_of
from progrpo_cli.tasks.registry import KINDS_OF_TASKS


def compose(overrides: Sequence[str] = (), experiment: str | None = None, *, config_dir: Path | None = None) -> Config:
    """Compose ``experiments/`` with the overrides.

    Args:
        overrides: in Hydra's grammar: ``method=grpo``, ``method.arm.alpha=0.3``.
        experiment: the same as the override ``experiment=NAME``.
        config_dir: the user's own folder of configurations, see :mod:`progrpo_cli.config.folder`.

    Raises:
        RequestError: a key, group or name is unknown (the message suggests the nearest one), a type or value is
            wrong, or a file in ``config_dir`` demands something that only the command line may demand.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if experiment is not None:
        overrides = [f"experiment={experiment}", *overrides]
    config_dir = folder.resolve(config_dir)
    checked = [_check(override, config_dir) for override in overrides]
    search_path = [] if config_dir is None else [f"hydra.searchpath=[{_quote(f'file://{config_dir}')}]"]
    try:
        with initialize_config_dir(config_dir=str(paths.EXPERIMENTS), version_base="1.3"):
            arm_overrides = [override for override, key in checked if key.startswith("method.arm.")]
            group_overrides = [*search_path, *(override for override, key in checked if key in GROUPS)]
            all_overrides = [*search_path, *(override for override, _ in checked)]
            if arm_overrides and (method := hydra_compose("config", overrides=group_overrides).method).arm is None:
                if not METHODS.find(method.name).takes_arm:
                    takers = ", ".join(sorted(name for name, cls in method_classes().items() if cls.takes_arm))
                    raise RequestError(
                        f"{arm_overrides[0].lstrip('+')!r}: {method.name} does not take ARM; these methods do: {takers}"
                    )
                all_overrides = ["++method.arm={}", *all_overrides]
            composed = hydra_compose("config", overrides=all_overrides)
        resolved: Any = OmegaConf.to_container(composed, resolve=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(f"configuration: {_one_line(error)}") from error
    if any(key == "task.template" for _, key in checked) and isinstance(resolved["task"].get("template"), str):
        resolved["task"]["template"] = _unescape(resolved["task"]["template"])
    refuse_code(resolved, "configuration")  # quoting may have hidden an interpolation from the first check
    config = validate(resolved)
    versions.refuse_set(resolved, config)
    given_keys = [key for _, key in checked]
    demands = demands_of(config, config_dir) if config_dir is not None else {}
    if unapproved := {key: value for key, value in demands.items() if key not in given_keys}:
        raise RequestError(
            f"--config-dir {config_dir}: a file {describe(unapproved)}: a file cannot ask for that, the command line "
            f"can ({' '.join(f'{key}={value}' for key, value in unapproved.items())})"
        )
    return versions.with_code_versions(config)


def validate(resolved: Any, *, import_others: bool = True) -> Config:
    """Type-check a resolved configuration, e.g. the frozen ``config.yaml`` of a run.

    Args:
        resolved: the content of the file.
        import_others: whether to import a method or kind of task of another installed package. If not, only the
            fields that all methods or tasks have are checked, and its hash must not be compared with others.

    Raises:
        RequestError: names the first key that is wrong, its value, and what is allowed.
    """
    try:
        return Config.model_validate(resolved, context=None if import_others else SHIPPED_CODE_ONLY)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "configuration"
        given = first["input"]
        expected = first.get("ctx", {}).get("expected", "")
        if first["type"] == "literal_error" and isinstance(given, str):
            choices = [choice.strip().strip("'") for choice in expected.replace(" or ", ", ").split(",")]
            raise RequestError(f"{key}={given}: not a valid value{nearest(given, choices)}") from error
        if first["type"] == "extra_forbidden":
            raise RequestError(f"{key}: unknown key{_suggest_owner(key, resolved)}") from error
        value = "" if isinstance(given, Mapping) else f"={given}"
        raise RequestError(f"{key}{value}: {first['msg'].removeprefix('Value error, ')}") from error


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return every key that can hold a value in a configuration, e.g. ``method.arm.alpha``."""
    unique: dict[str, None] = {}
    for name, field in model.model_fields.items():
        sections = sections_of(field.annotation)
        if not sections or (not field.is_required() and field.default is None):  # an optional section may be null
            unique[prefix + name] = None
        for section in sections:
            unique.update(dict.fromkeys(keys(section, f"{prefix}{name}.")))
    return list(unique)


def _suggest_owner(key: str, resolved: Mapping[str, Any]) -> str:
    """Name the methods or kinds of task that have the key, or else the nearest key."""
    methods = [name for name, cls in method_classes().items() if key in keys(cls, "method.")]
    if methods:
        return f"; it belongs to method={' and method='.join(methods)}"
    kinds = [kind for kind, section in KINDS.items() if key in keys(section, "task.")]
    if kinds:
        return f"; it belongs to tasks of kind {' and '.join(kinds)}"
    own = keys_of(resolved) if key.startswith(("method.", "task.")) else []
    return nearest(key, [*keys(), *own])


def keys_of(resolved: Mapping[str, Any]) -> list[str]:
    """Return the keys of the method and the task of a resolved configuration, also of other packages' classes."""
    method, kind = METHODS.find(resolved["method"]["name"]), KINDS_OF_TASKS.find(str(kind_of(resolved["task"])))
    return [*keys(method, "method."), *keys(kind, "task.")]


def sections_of(annotation: object) -> list[type[BaseModel]]:
    """Return the section classes that a field's type allows: the members of a union, all shipped methods or tasks."""
    if annotation is Method:
        return [*method_classes().values()]
    if annotation is TaskConfig:
        return [*KINDS.values()]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def _check(override: str, config_dir: Path | None) -> tuple[str, str]:
    """Check an override; return it in the form that Hydra expects, and its key.

    With a ``config_dir``, unknown keys of methods and tasks are accepted here: they may belong to another package's
    class, which is known only after composition.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if "${" in override:
        raise RequestError(f"{override!r}: interpolations are not allowed on the command line")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        key, _, value = override.partition("=")
        hint = "" if value.isascii() else f"; quote values that are not ASCII: '{key}=\"{value}\"'"
        raise RequestError(f"{override!r} is not KEY=VALUE: {_one_line(error)}{hint}") from error
    key = parsed.key_or_group
    if parsed.package is not None:
        raise RequestError(f"{override!r}: packages (`@`) are not allowed on the command line")
    if parsed.is_delete():
        raise RequestError(f"{override!r}: keys cannot be deleted")
    if parsed.is_sweep_override():
        raise RequestError(f"{override!r} has several values, and a run takes one; see `progrpo sweep`")
    if key in GROUPS:
        value = str(parsed.value())
        folder.path_of(key, value, config_dir)
        return f"{key}={value}", key
    if key in ("method.name", "task.kind"):
        raise RequestError(f"{override!r}: a {key.split('.')[0]} is chosen with {key.split('.')[0]}=NAME")
    valid = keys()
    below = [name for name in valid if name.startswith(f"{key}.")]
    given: Any = parsed.value()
    if below and isinstance(given, dict):  # a whole section: `train.rewards={format: 0.1}`
        for name in (f"{key}.{part}" for part in given):
            if not any(known == name or known.startswith(f"{name}.") for known in below):
                raise RequestError(f"unknown key {name!r}{nearest(name, below)}")
        return f"++{override.lstrip('+')}", key
    if key not in valid and not (config_dir is not None and key.startswith(("method.", "task."))):
        raise RequestError(f"unknown key {key!r}{nearest(key, [*valid, *GROUPS])}")
    return f"++{override.lstrip('+')}", key


def _unescape(template: str) -> str:
    r"""Replace ``\n`` by a line end and two backslashes by one: a shell passes both on as they were typed."""
    return re.sub(r"\\(\\|n)", lambda escaped: "\n" if escaped[1] == "n" else "\\", template)


def _quote(text: str) -> str:
    """Quote any text for Hydra's grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
