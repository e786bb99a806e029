"""From Hydra's overrides to a typed configuration, with one clear line for everything that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from progrpo_cli.config import folder, paths, versions
from progrpo_cli.config.code_run import code_run_by, in_words
from progrpo_cli.config.folder import GROUPS
from progrpo_cli.config.plain_yaml import refuse_what_is_not_data
from progrpo_cli.config.schema import SHIPPED_CODE_ONLY, Config
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.methods.base import Method
from progrpo_cli.methods.registry import METHODS, method_classes
from progrpo_cli.tasks.config import KINDS, TaskConfig, kind_of
from progrpo_cli.tasks.registry import KINDS_OF_TASKS


def compose(overrides: Sequence[str] = (), experiment: str | None = None, *, config_dir: Path | None = None) -> Config:
    """Compose ``experiments/`` with the overrides.

    Args:
        overrides: Hydra's grammar: ``method=grpo``, ``method.arm.alpha=0.3``.
        experiment: the same as the override ``experiment=NAME``.
        config_dir: a folder of the user's own with more of the groups, see :mod:`progrpo_cli.config.folder`.

    Raises:
        RequestError: an unknown key, group or name (the nearest valid one is named), a wrong type or value; or a file
            asks for code to be run that the overrides do not ask for.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if experiment is not None:
        overrides = [f"experiment={experiment}", *overrides]
    config_dir = folder.checked(config_dir)
    checked = [_checked(override, config_dir) for override in overrides]
    places = [] if config_dir is None else [f"hydra.searchpath=[{_quoted(f'file://{config_dir}')}]"]
    try:
        with initialize_config_dir(config_dir=str(paths.EXPERIMENTS), version_base="1.3"):
            of_arm = [override for override, key in checked if key.startswith("method.arm.")]
            groups = [*places, *(override for override, key in checked if key in GROUPS)]
            everything = [*places, *(override for override, _ in checked)]
            if of_arm and (method := hydra_compose("config", overrides=groups).method).arm is None:
                if not METHODS.find(method.name).takes_arm:
                    takers = ", ".join(sorted(name for name, cls in method_classes().items() if cls.takes_arm))
                    raise RequestError(f"{of_arm[0].lstrip('+')!r}: {method.name} has no ARM; these take it: {takers}")
                everything = ["++method.arm={}", *everything]
            composed = hydra_compose("config", overrides=everything)
        resolved: Any = OmegaConf.to_container(composed, resolve=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(f"configuration: {_one_line(error)}") from error
    if any(key == "task.template" for _, key in checked) and isinstance(resolved["task"].get("template"), str):
        resolved["task"]["template"] = _unescaped(resolved["task"]["template"])
    refuse_what_is_not_data(resolved, "configuration")  # however an override was quoted: nothing is resolved
    config = validate(resolved)
    versions.refuse_set(resolved, config)
    asked = [key for _, key in checked]
    if unasked := {key: value for key, value in code_run_by(config).items() if key not in asked}:
        raise RequestError(
            f"--config-dir {config_dir}: a file {in_words(unasked)}: a file cannot ask for that, the command line can "
            f"({' '.join(f'{key}={value}' for key, value in unasked.items())})"
        )
    return versions.of_code(config)


def validate(resolved: Any, *, import_others: bool = True) -> Config:
    """Type-check a resolved configuration, e.g. the frozen ``config.yaml`` of a run.

    Args:
        resolved: the content of the file.
        import_others: whether a method or kind of task of another installed package is imported. If not, only what
            every method and task has is checked of it, and its numbers have no hash that could be compared.

    Raises:
        RequestError: naming the first key that is wrong, what it holds and what it takes.
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
            raise RequestError(f"{key}: unknown key{_who_has(key, resolved)}") from error
        shown = "" if isinstance(given, Mapping) else f"={given}"
        raise RequestError(f"{key}{shown}: {first['msg'].removeprefix('Value error, ')}") from error


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every configuration key that holds a value in some configuration, e.g. ``method.arm.alpha``."""
    found: dict[str, None] = {}
    for name, field in model.model_fields.items():
        sections = sections_of(field.annotation)
        if not sections or (not field.is_required() and field.default is None):  # a section left out unless asked for
            found[prefix + name] = None
        for section in sections:
            found.update(dict.fromkeys(keys(section, f"{prefix}{name}.")))
    return list(found)


def _who_has(key: str, resolved: Mapping[str, Any]) -> str:
    """The methods or kinds of tasks whose option the key is, or the nearest key there is."""
    methods = [name for name, cls in method_classes().items() if key in keys(cls, "method.")]
    if methods:
        return f"; it belongs to method={' and method='.join(methods)}"
    kinds = [kind for kind, section in KINDS.items() if key in keys(section, "task.")]
    if kinds:
        return f"; it belongs to tasks of kind {' and '.join(kinds)}"
    own = keys_of(resolved) if key.startswith(("method.", "task.")) else []
    return nearest(key, [*keys(), *own])


def keys_of(resolved: Mapping[str, Any]) -> list[str]:
    """The keys that the method and the task of a resolved configuration have, whoever brings them."""
    method, kind = METHODS.find(resolved["method"]["name"]), KINDS_OF_TASKS.find(str(kind_of(resolved["task"])))
    return [*keys(method, "method."), *keys(kind, "task.")]


def sections_of(annotation: object) -> list[type[BaseModel]]:
    """The sections that the type of a field allows: itself, the parts of a union, every method or kind that we ship."""
    if annotation is Method:
        return [*method_classes().values()]
    if annotation is TaskConfig:
        return [*KINDS.values()]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def _checked(override: str, config_dir: Path | None) -> tuple[str, str]:
    """The override in the form that Hydra takes, and its key.

    With a folder of the user's own, keys of methods and tasks are checked later: what is composed says whose they are.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if "${" in override:
        raise RequestError(f"{override!r}: interpolations are not taken from the command line")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        key, _, value = override.partition("=")
        hint = "" if value.isascii() else f"; quote what is not ASCII: '{key}=\"{value}\"'"
        raise RequestError(f"{override!r} is not KEY=VALUE: {_one_line(error)}{hint}") from error
    key = parsed.key_or_group
    if parsed.package is not None:
        raise RequestError(f"{override!r}: packages (`@`) are not taken from the command line")
    if parsed.is_delete():
        raise RequestError(f"{override!r}: keys cannot be deleted")
    if parsed.is_sweep_override():
        raise RequestError(f"{override!r} has several values: one run takes one; see `progrpo sweep`")
    if key in GROUPS:
        value = str(parsed.value())
        folder.path_of(key, value, config_dir)
        return f"{key}={value}", key
    if key in ("method.name", "task.kind"):
        raise RequestError(f"{override!r}: a {key.split('.')[0]} is chosen with {key.split('.')[0]}=NAME")
    valid = keys()
    below = [name for name in valid if name.startswith(f"{key}.")]
    given: Any = parsed.value()
    if below and isinstance(given, dict):  # a section as a whole: `train.rewards={format: 0.1}`
        for name in (f"{key}.{part}" for part in given):
            if not any(known == name or known.startswith(f"{name}.") for known in below):
                raise RequestError(f"unknown key {name!r}{nearest(name, below)}")
        return f"++{override.lstrip('+')}", key
    if key not in valid and not (config_dir is not None and key.startswith(("method.", "task."))):
        raise RequestError(f"unknown key {key!r}{nearest(key, [*valid, *GROUPS])}")
    return f"++{override.lstrip('+')}", key


def _unescaped(template: str) -> str:
    r"""What a shell hands over: ``\n`` is the end of a line, and two backslashes are one, as the docs show it."""
    return re.sub(r"\\(\\|n)", lambda escaped: "\n" if escaped[1] == "n" else "\\", template)


def _quoted(text: str) -> str:
    """As Hydra's grammar takes any text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
