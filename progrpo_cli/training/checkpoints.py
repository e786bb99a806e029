"""Checkpoints and the trained policy on disk. A directory is either complete or does not have its final name.

:class:`progrpo_cli.training.callbacks.CheckpointPolicy` decides when a checkpoint is written.
"""

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
"""Subdirectory of ``checkpoints/`` for checkpoints that are being written or removed."""
FILES = "files.json"
"""File of a checkpoint with the size of each of its other files."""


def last_checkpoint(directory: Path) -> int:
    """The update of the newest complete checkpoint, or 0. Every file must have its recorded size."""
    complete = [0]
    for checkpoint in directory.glob("checkpoint-*"):
        if _is_complete(checkpoint):
            complete.append(_update_of(checkpoint))
        else:
            log.warning(f"{checkpoint} is incomplete and is not used")
    return max(complete)


def _is_complete(checkpoint: Path) -> bool:
    try:
        sizes: dict[str, int] = json.loads(read_text(checkpoint / FILES))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _update_of(checkpoint: Path) -> int:
    number = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
    return int(number[1]) if number else 0


class DurableCheckpointMixin(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Writes the Trainer's checkpoints into ``.partial``, syncs them to the disk and then renames them.

    The Trainer itself writes into the final directory, and removes older checkpoints before the new one is safely on
    the disk. Here a crash leaves either the earlier checkpoints or the new one as well.
    """

    keep_checkpoints = 2
    _writing_aside = False

    def _get_output_dir(self, trial: Any) -> str:
        directory: str = super()._get_output_dir(trial)
        return str(Path(directory) / PARTIAL) if self._writing_aside else directory

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        root = Path(self.args.output_dir)
        partial, name = root / PARTIAL, f"checkpoint-{self.state.global_step}"
        try:
            if self.args.should_save:
                _remove(partial)
            self.accelerator.wait_for_everyone()
            self._writing_aside = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writing_aside = False
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                _sync_to_disk(partial / name)
                _replace(partial / name, root / name)
                _keep_newest(root, self.keep_checkpoints)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors drop the system's reason
            reason = files.why_not_writable(root) or " ".join(str(error).split())[:200]
            _remove(partial)
            raise WorkError(
                f"{root / name} could not be written: {reason}; the steps logged so far and the earlier checkpoint "
                "are kept, and the same command continues from there"
            ) from error


def _sync_to_disk(checkpoint: Path) -> None:
    """Record the size of each file, and sync all of them to the disk before the checkpoint gets its name."""
    (checkpoint / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
    written = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in written}
    files.write_json(checkpoint / FILES, sizes)
    for path in [*written, checkpoint]:
        files.sync(path)


def _replace(source: Path, target: Path) -> None:
    if target.exists():  # an incomplete checkpoint left by a crash
        _remove(target)
    source.rename(target)
    files.sync(target.parent)


def _keep_newest(root: Path, count: int) -> None:
    for checkpoint in sorted(root.glob("checkpoint-*"), key=_update_of)[:-count]:
        _remove(checkpoint)


def _remove(directory: Path) -> None:
    """Remove a directory. It is renamed first, so that a crash halfway leaves nothing that looks like a checkpoint."""
    if directory.name != PARTIAL and directory.exists():
        removed = directory.parent / PARTIAL / f"gone-{directory.name}-{os.getpid()}"
        removed.parent.mkdir(exist_ok=True)
        directory = directory.rename(removed)
    shutil.rmtree(directory, ignore_errors=True)


def save_policy(trainer: Trainer, tokenizer: Any, path: Path) -> None:
    """Write the trained policy in the format of ``from_pretrained``. A crash leaves all of it or none of it.

    Adapters are merged into the weights, so the trainer cannot use its model afterwards.

    Raises:
        WorkError: the policy cannot be written.
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
            f"{path} could not be written: {reason}; the logged steps are kept, and the same command continues from "
            "the last checkpoint"
        ) from error
