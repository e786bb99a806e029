"""What is kept of a policy while training and after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import Trainer

from progrpo_cli.console import log


def last_checkpoint(directory: Path) -> int:
    """The update of the newest complete checkpoint, or 0.

    The Trainer writes ``trainer_state.json`` last: a checkpoint is complete when that file can be read.
    """
    complete = [0]
    for state in directory.glob("checkpoint-*/trainer_state.json"):
        try:
            complete.append(int(json.loads(state.read_text(encoding="utf-8"))["global_step"]))
        except (OSError, ValueError, KeyError):
            log.warning(f"{state.parent} is incomplete and is not used")
    return max(complete)


def save_policy(trainer: Trainer, tokenizer: Any, path: Path) -> None:
    """Write the trained policy so that ``from_pretrained`` reads it; a crash leaves none or the whole.

    Adapters are merged into the weights, which ends the trainer's use of its model.
    """
    partial = path.with_name(".policy.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if isinstance(trainer.model, PeftModel):
        trainer.model.merge_and_unload().save_pretrained(partial)
    else:
        trainer.save_model(str(partial))
    (partial / "training_args.bin").unlink(missing_ok=True)  # a pickle: a policy is read without unpickling anything
    tokenizer.save_pretrained(partial)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
