"""The directory of a run: its lock, its files and its manifest."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Unpack

from progrpo_cli.config import plain_yaml, versions
from progrpo_cli.config.compose import validate
from progrpo_cli.config.demands import demands_of, foreign_classes_of
from progrpo_cli.config.hashing import config_hash, is_hashed
from progrpo_cli.config.schema import Config
from progrpo_cli.config.values import flatten, to_yaml
from progrpo_cli.errors import RequestError
from progrpo_cli.records import files
from progrpo_cli.records.identity import identity_of
from progrpo_cli.records.layout import SAMPLES, Layout
from progrpo_cli.records.manifest import Changes, Manifest, read_manifest
from progrpo_cli.records.provenance import now, provenance
from progrpo_cli.records.signature import is_ours, sign
from progrpo_cli.untrusted import MEDIUM, count_lines, read_bytes, read_text

log = logging.getLogger("progrpo")

_PROBE_SECONDS = 0.5  # another process may call `in_use`, which holds the lock for an instant


class RunDirectory(Layout):
    """The directory of a run. A process has to hold :meth:`lock` while it writes to it."""

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl``, one per update; see :mod:`progrpo_cli.records.lines`."""
        return files.read_lines(self.metrics_path)

    def train_seconds(self) -> float:
        """Return the duration of the logged updates in seconds, including sampling."""
        return round(math.fsum(line["step_seconds"] for line in self.metrics()), 3)

    def lines_written(self) -> int:
        """Return the run's progress as a number of lines: updates trained and samples drawn."""
        written = [self.metrics_path, *self.evaluations.glob(f"*/{SAMPLES}")]
        return sum(count_lines(path) for path in written if path.exists())

    def write_trained_on(self, task: str, questions: Iterable[str]) -> None:
        """Write the fingerprints of the questions that the run trains on."""
        files.write_json(self.trained_on_path, {"task": task, "questions": sorted(set(questions))})

    def trained_on(self) -> list[str]:
        """Return the fingerprints of the questions that the run trains on; empty for runs of earlier versions.

        Raises:
            RequestError: the file is damaged.
        """
        try:
            questions = json.loads(read_text(self.trained_on_path, MEDIUM))["questions"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise RequestError(f"{self.trained_on_path} is damaged: {error}") from error
        return [str(question) for question in questions]

    @property
    def exists(self) -> bool:
        """Whether the directory holds a run."""
        return self.manifest_path.is_file() and self.config_path.is_file()

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            RequestError: it is missing, not JSON, or another program's.
        """
        return read_manifest(self.manifest_path)

    def identity(self) -> dict[str, Any]:
        """Return the run's identity, see :func:`identity_of`."""
        return identity_of(self.manifest(), self.name)

    def update(self, **changes: Unpack[Changes]) -> None:
        """Change fields of the manifest."""
        files.write_json(self.manifest_path, {**self.manifest(), **changes})

    def config(self, *, import_others: bool = True) -> Config:
        """Read the frozen configuration.

        Args:
            import_others: see :func:`progrpo_cli.config.compose.validate`.

        Raises:
            RequestError: it is missing or invalid.
        """
        frozen = plain_yaml.read(self.config_path)
        try:
            return validate(frozen, import_others=import_others)
        except RequestError as error:
            raise RequestError(f"{self.config_path}: {error}") from error

    @property
    def finished(self) -> bool:
        """Whether the directory holds a trained run whose training has finished."""
        return self.exists and self.manifest()["status"] == "finished" and self.manifest()["kind"] == "run"

    def status(self) -> str:
        """Return the manifest's status, or ``interrupted`` if it is ``running`` but its process was killed."""
        status: str = self.manifest()["status"]
        return "interrupted" if status == "running" and not self.in_use() else status

    def in_use(self) -> bool:
        """Whether a process holds the lock of the directory."""
        return files.is_locked(self.path / ".lock")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Context manager that locks the directory. The kernel releases the lock when the process ends.

        Raises:
            RequestError: another process holds the lock, or the directory cannot be written.
        """
        path = self.path / ".lock"
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(files.locked(path, seconds=_PROBE_SECONDS))
            except BlockingIOError:
                holder = path.read_text(encoding="utf-8").strip() or "unknown"
                raise RequestError(f"{self.path} is in use by process {holder}") from None
            except OSError as error:
                raise RequestError(f"{self.path} cannot be written: {error.strerror}") from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def refuse_foreign(self) -> None:
        """Raise RequestError if the directory holds files but no run."""
        if self.path.exists() and not self.path.is_dir():
            raise RequestError(f"{self.path} is a file; choose another --run-dir")
        foreign = [entry.name for entry in self.path.glob("*") if not entry.name.startswith(".")]
        if foreign and not (self.config_path.exists() or self.manifest_path.exists() or self.checkpoints.exists()):
            raise RequestError(f"{self.path} holds files but no run ({foreign[0]}); choose another --run-dir")

    @contextmanager
    def deleted_on_request_error(self) -> Iterator[None]:
        """Context manager. If a RequestError is raised inside it, a run that it started here is deleted."""
        is_new = not self.exists
        try:
            yield
        except RequestError:
            if is_new:
                shutil.rmtree(self.path)
            raise

    def refuse_other(self, config: Config) -> None:
        """Raise RequestError if the directory holds a run of another configuration or seed; name the differences."""
        self.refuse_foreign()
        if not self.exists:
            return
        existing = self.config()
        if config_hash(versions.with_code_versions(existing)) == config_hash(config):
            versions.refuse_other(existing, str(self.path))
        if config_hash(existing) == config_hash(config) and existing.seed == config.seed:
            return
        old, new = flatten(existing), flatten(config)
        keys = [key for key in sorted({*old, *new}) if key == "seed" or is_hashed(key)]
        differing = [key for key in keys if old.get(key) != new.get(key)]
        differences = "; ".join(f"{key} is {old.get(key)}, not {new.get(key)}" for key in differing)
        raise RequestError(
            f"{self.path} holds another configuration ({differences}); choose another --run-dir or --fresh"
        )

    def start(self, config: Config, *, kind: Literal["run", "model"] = "run", **fields: Any) -> None:
        """Write the configuration and the manifest of a new run; ``fields`` are added to the manifest."""
        text = to_yaml(config)
        files.write_text(self.config_path, text)
        signed = {"config_signature": sign(text.encode())} if _demands(config, self.path) else {}
        files.write_json(
            self.manifest_path,
            {
                "kind": kind,
                "config_hash": config_hash(config),
                "seed": config.seed,
                "versions": {"method": config.method.version, "judge": config.task.judge_version},
                "status": "running",
                "started_at": now(),
                "finished_at": None,
                "error": None,
                "failed_at": None,
                "curves": config.method.curves if kind == "run" else [],
                **fields,
                **signed,
                "wandb_run_id": secrets.token_hex(4),
                "resumed_at": [],
                **provenance(),
            },
        )

    def demands(self) -> dict[str, str]:
        """Return the demands of the configuration; none if a command of this user wrote it."""
        demands = _demands(self.config(import_others=False), self.path)
        if demands and is_ours(read_bytes(self.config_path), self.manifest().get("config_signature")):
            return {}
        return demands

    def set_aside(self, part: str | None = None) -> Path:
        """Move the content of the directory, or only ``part`` of it, to ``.replaced/`` beside the run.

        Reports and lists ignore that folder.

        Returns:
            The new directory.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        aside = self.path.parent / ".replaced" / f"{self.name}-{stamp}"
        for entry in [self.path / part] if part else list(self.path.iterdir()):
            if entry.name != ".lock":
                target = aside / entry.relative_to(self.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                entry.rename(target)
        return aside


def _demands(config: Config, directory: Path) -> dict[str, str]:
    return {**demands_of(config, directory), **foreign_classes_of(config)}
