"""What is kept of a policy while training and after it: whole, or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import Trainer

from progrpo_cli.console import log
from progrpo_cli.errors import WorkError
from progrpo_cli.records import files
from progrpo_cli.untrusted import read_text

PARTIAL = ".partial"
"""Of ``checkpoints/``: where a checkpoint is written, and where one goes that is taken away."""
FILES = "files.json"
"""In a checkpoint: the size of each of its files."""


def last_checkpoint(directory: Path) -> int:
    """The update of the newest complete checkpoint, or 0: one that lacks a byte of what was written is not used."""
    complete = [0]
    for checkpoint in directory.glob("checkpoint-*"):
        if _is_whole(checkpoint):
            complete.append(_update_of(checkpoint))
        else:
            log.warning(f"{checkpoint} is incomplete and is not used")
    return max(complete)


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes: dict[str, int] = json.loads(read_text(checkpoint / FILES))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _update_of(checkpoint: Path) -> int:
    number = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
    return int(number[1]) if number else 0


class DurableCheckpoints(Trainer):  # type: ignore[misc]  # transformers is not typed
    """The Trainer's checkpoints, written aside, made durable and renamed: a crash leaves the earlier ones or this one.

    The Trainer would write into the checkpoint's own directory and take older ones away without knowing that the new
    one is on the disk.
    """

    checkpoints_kept = 2
    _written_aside = False

    def _get_output_dir(self, trial: Any) -> str:
        directory: str = super()._get_output_dir(trial)
        return str(Path(directory) / PARTIAL) if self._written_aside else directory

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        root = Path(self.args.output_dir)
        partial, name = root / PARTIAL, f"checkpoint-{self.state.global_step}"
        try:
            if self.args.should_save:
                _take_away(partial)
            self.accelerator.wait_for_everyone()
            self._written_aside = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._written_aside = False
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                _make_durable(partial / name)
                _replace(partial / name, root / name)
                _keep_newest(root, self.checkpoints_kept)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors lose the reason on their way
            reason = files.why_not_writable(root) or " ".join(str(error).split())[:200]
            _take_away(partial)
            raise WorkError(
                f"{root / name} could not be written: {reason}; every step logged so far and the earlier checkpoint "
                "are kept, the same command goes on from there"
            ) from error


def _make_durable(checkpoint: Path) -> None:
    """Every byte is on the disk before the checkpoint gets its name."""
    (checkpoint / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
    written = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in written}
    files.write_json(checkpoint / FILES, sizes)
    for path in [*written, checkpoint]:
        files.sync(path)


def _replace(source: Path, target: Path) -> None:
    if target.exists():  # an incomplete one of a crash
        _take_away(target)
    source.rename(target)
    files.sync(target.parent)


def _keep_newest(root: Path, how_many: int) -> None:
    for checkpoint in sorted(root.glob("checkpoint-*"), key=_update_of)[:-how_many]:
        _take_away(checkpoint)


def _take_away(directory: Path) -> None:
    """Remove a directory; a crash in the middle leaves nothing under its name that looks like a whole one."""
    if directory.name != PARTIAL and directory.exists():
        gone = directory.parent / PARTIAL / f"gone-{directory.name}-{os.getpid()}"
        gone.parent.mkdir(exist_ok=True)
        directory = directory.rename(gone)
    shutil.rmtree(directory, ignore_errors=True)


def save_policy(trainer: Trainer, tokenizer: Any, path: Path) -> None:
    """Write the trained policy so that ``from_pretrained`` reads it; a crash leaves none or the whole.

    Adapters are merged into the weights, which ends the trainer's use of its model.

    Raises:
        WorkError: it cannot be written.
    """
    partial = path.with_name(".policy.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if isinstance(trainer.model, PeftModel):
            trainer.model.merge_and_unload().save_pretrained(partial)
        else:
            trainer.save_model(str(partial))
        (partial / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
        tokenizer.save_pretrained(partial)
        for written in [*partial.rglob("*"), partial]:
            files.sync(written)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        files.sync(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = files.why_not_writable(path.parent) or " ".join(str(error).split())[:200]
        shutil.rmtree(partial, ignore_errors=True)
        raise WorkError(
            f"{path} could not be written: {reason}; every step logged is kept, the same command goes on from the "
            "last checkpoint"
        ) from error
