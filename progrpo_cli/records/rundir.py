"""A run directory: who may write to it, what it holds, and its manifest."""

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

_PROBES_SECONDS = 0.5  # `in_use` holds the lock for an instant: that is no reason to refuse anybody


class RunDirectory(Layout):
    """The paths of a run and its manifest. Whoever writes to it holds :meth:`lock`."""

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, an update each; see :mod:`progrpo_cli.records.lines`."""
        return files.read_lines(self.metrics_path)

    def train_seconds(self) -> float:
        """How long the logged updates took, sampling included."""
        return round(math.fsum(line["step_seconds"] for line in self.metrics()), 3)

    def lines_written(self) -> int:
        """How far the run has got, in lines: updates trained and samples drawn."""
        written = [self.metrics_path, *self.evaluations.glob(f"*/{SAMPLES}")]
        return sum(count_lines(path) for path in written if path.exists())

    def keep_trained_on(self, task: str, questions: Iterable[str]) -> None:
        """Write down the fingerprints of the questions that the run trains on."""
        files.write_json(self.trained_on_path, {"task": task, "questions": sorted(set(questions))})

    def trained_on(self) -> list[str]:
        """Fingerprints of the questions that the run trains on; empty where an earlier version kept none."""
        try:
            questions = json.loads(read_text(self.trained_on_path, MEDIUM))["questions"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise RequestError(f"{self.trained_on_path} is damaged: {error}") from error
        return [str(question) for question in questions]

    @property
    def exists(self) -> bool:
        """Whether there is a run in the directory."""
        return self.manifest_path.is_file() and self.config_path.is_file()

    def manifest(self) -> Manifest:
        """The manifest as it is now.

        Raises:
            RequestError: there is none, it is not JSON, or it is another program's.
        """
        return read_manifest(self.manifest_path)

    def identity(self) -> dict[str, Any]:
        """See :func:`identity_of`."""
        return identity_of(self.manifest(), self.name)

    def update(self, **changes: Unpack[Changes]) -> None:
        """Change fields of the manifest."""
        files.write_json(self.manifest_path, {**self.manifest(), **changes})

    def config(self, *, import_others: bool = True) -> Config:
        """The frozen configuration.

        Args:
            import_others: see :func:`progrpo_cli.config.compose.validate`.

        Raises:
            RequestError: there is none, or it is not valid.
        """
        frozen = plain_yaml.read(self.config_path)
        try:
            return validate(frozen, import_others=import_others)
        except RequestError as error:
            raise RequestError(f"{self.config_path}: {error}") from error

    @property
    def finished(self) -> bool:
        """Whether training ended and the policy is there."""
        return self.exists and self.manifest()["status"] == "finished" and self.manifest()["kind"] == "run"

    def status(self) -> str:
        """The manifest's status; a run whose process was killed is ``interrupted`` although it could not write so."""
        status: str = self.manifest()["status"]
        return "interrupted" if status == "running" and not self.in_use() else status

    def in_use(self) -> bool:
        """Whether a process holds the directory."""
        return files.is_locked(self.path / ".lock")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory; the kernel lets go when the process dies, however it dies.

        Raises:
            RequestError: another process holds it, or the path cannot be a directory of ours.
        """
        path = self.path / ".lock"
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(files.locked(path, seconds=_PROBES_SECONDS))
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
        """Raise RequestError if there are files in the directory that are not ours."""
        if self.path.exists() and not self.path.is_dir():
            raise RequestError(f"{self.path} is a file; choose another --run-dir")
        foreign = [entry.name for entry in self.path.glob("*") if not entry.name.startswith(".")]
        if foreign and not (self.config_path.exists() or self.manifest_path.exists() or self.checkpoints.exists()):
            raise RequestError(f"{self.path} holds files but no run ({foreign[0]}); choose another --run-dir")

    @contextmanager
    def nothing_left_of_a_wrong_request(self) -> Iterator[None]:
        """Within: a RequestError takes away the run that was begun here; one that was there before stays."""
        is_new = not self.exists
        try:
            yield
        except RequestError:
            if is_new:
                shutil.rmtree(self.path)
            raise

    def refuse_other(self, config: Config) -> None:
        """Raise RequestError if the directory holds a run of another configuration or seed, naming what differs."""
        self.refuse_foreign()
        if not self.exists:
            return
        held = self.config()
        if config_hash(versions.with_code_versions(held)) == config_hash(config):
            versions.refuse_other(held, str(self.path))
        if config_hash(held) == config_hash(config) and held.seed == config.seed:
            return
        theirs, ours = flatten(held), flatten(config)
        compared = [key for key in sorted({*theirs, *ours}) if key == "seed" or is_hashed(key)]
        different = [key for key in compared if theirs.get(key) != ours.get(key)]
        shown = "; ".join(f"{key} is {theirs.get(key)}, not {ours.get(key)}" for key in different)
        raise RequestError(f"{self.path} holds another configuration ({shown}); choose another --run-dir or --fresh")

    def start(self, config: Config, *, kind: Literal["run", "model"] = "run", **fields: Any) -> None:
        """Freeze the configuration and write the manifest of a new run."""
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
        """What the configuration asks for, unless a command of this user wrote it, which was asking itself."""
        found = _demands(self.config(import_others=False), self.path)
        if found and is_ours(read_bytes(self.config_path), self.manifest().get("config_signature")):
            return {}
        return found

    def set_aside(self, part: str | None = None) -> Path:
        """Move what the directory (or a ``part`` of it) holds out of the way: a fresh start loses nothing.

        It goes to ``.replaced/`` beside the run, where neither reports nor lists look.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        aside = self.path.parent / ".replaced" / f"{self.name}-{stamp}"
        for entry in [self.path / part] if part else list(self.path.iterdir()):
            if entry.name != ".lock":
                kept = aside / entry.relative_to(self.path)
                kept.parent.mkdir(parents=True, exist_ok=True)
                entry.rename(kept)
        return aside


def _demands(config: Config, directory: Path) -> dict[str, str]:
    return {**demands_of(config, directory), **foreign_classes_of(config)}
