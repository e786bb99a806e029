"""Finding and loading a policy: a model directory, a hub name, or one of the two that packages carry.

``progrpo/lab-base`` ships with this package, ``progrpo/smollm2-135m`` with the extra ``smollm``.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progrpo_cli.config import paths
from progrpo_cli.errors import ProgrpoError, RequestError, nearest
from progrpo_cli.policies import smollm2
from progrpo_cli.policies.sound import (
    refuse_endless_layers,
    refuse_pickled_adapter,
    refuse_what_is_no_file,
    refuse_what_is_not_finite,
    refuse_what_is_not_whole,
)
from progrpo_cli.records.layout import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TEMPLATE_SECONDS = 20.0  # an ordinary template takes a millisecond
LOCAL = ("runs", "policy", "checkpoints", ".", "..", "/")
"""What a path of ours begins with: no owner on the hub."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Source:
    """Where a policy is loaded from."""

    label: str
    """How it is named in files and tables."""
    location: str
    """A directory or a hub name."""

    @property
    def from_a_package(self) -> bool:
        """Whether the label is the same everywhere and says which weights are meant, wherever they lie."""
        return self.label in (paths.LAB_BASE, paths.SMOLLM2)

    @property
    def directory(self) -> Path | None:
        """The directory, or None for a hub name."""
        path = Path(self.location)
        return path if path.is_dir() else None

    def fingerprint(self) -> str:
        """Changes when the weights on disk do (names, sizes and times of the weight files); empty for a hub name."""
        if self.label == paths.SMOLLM2:
            return smollm2.identity()
        if self.directory is None:
            return ""
        if self.label == paths.LAB_BASE:  # ships with the package: installing it must not change its identity
            return hashlib.sha256((self.directory / "model.safetensors").read_bytes()).hexdigest()[:12]
        files = sorted(self.directory.glob("*.safetensors"))
        described = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(repr(described).encode()).hexdigest()[:12]


def resolve(target: str) -> Source:
    """Find a policy without loading anything.

    Raises:
        RequestError: neither a package's policy, nor an existing model directory, nor a name ``owner/name``; or a
            package's policy that is not installed.
    """
    if target == paths.LAB_BASE:
        return Source(target, str(paths.ASSETS / "lab-base"))
    if target == paths.SMOLLM2:
        smollm2.require()
        return Source(target, str(smollm2.directory()))
    path = Path(target)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise RequestError(f"{target} is neither a run directory nor a model directory (no config.json in it)")
        return Source(target.rstrip("/"), target)
    if path.exists():
        raise RequestError(f"{target} is a file; a run directory, a model directory or a hub name is needed")
    if target != path.name and (path.parent.is_dir() or path.parts[0] in LOCAL):
        beside = [str(other) for other in path.parent.glob("*") if other.is_dir()]
        raise RequestError(f"there is no directory {target}{nearest(target, beside) if beside else ''}")
    if not _HUB_NAME.fullmatch(target):
        raise RequestError(f"{target!r} is neither an existing path nor a hub name (owner/name)")
    return Source(target, target)


def load(
    source: Source, dtype: str, device: str, *, chat: bool, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights (safetensors only) and tokenizer, ready to sample from.

    Args:
        source: where they are.
        dtype: float32 or bfloat16.
        device: cpu or cuda.
        chat: a chat template is needed.
        trust_remote_code: run the Python files that come with the model; without it a model that needs them is refused.

    Raises:
        RequestError: what stands there cannot be loaded, or has no chat template; one line says why.
    """
    tokenizer, model = _loaded(source, dtype, chat, trust_remote_code)
    return model.to(device), tokenizer


_kept: dict[tuple[str, str, str, bool, bool], Any] | None = None


@contextmanager
def loaded_once() -> Iterator[None]:
    """Within: policies that are no run's are read from disk once, and every :func:`load` gets a copy of its own."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None


def _loaded(source: Source, dtype: str, chat: bool, trust_remote_code: bool) -> tuple[Any, Any]:
    if _kept is None or source.directory is None or Layout(source.directory.parent).manifest_path.exists():
        return _read(source, dtype, chat, trust_remote_code)
    key = (source.location, source.fingerprint(), dtype, chat, trust_remote_code)
    if key not in _kept:
        _kept[key] = _read(source, dtype, chat, trust_remote_code)
    tokenizer, model = copy.deepcopy(_kept[key])
    return tokenizer, model


def _read(source: Source, dtype: str, chat: bool, trust_remote_code: bool) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(source, chat=chat, trust_remote_code=trust_remote_code)
    with _one_line(source):
        model: Any
        model, loaded = AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,  # so that we say which
            output_loading_info=True,
        )
    refuse_what_is_not_whole(source.label, loaded, getattr(model, "all_tied_weights_keys", None) or {})
    refuse_what_is_not_finite(source.label, model)
    return tokenizer, model


def load_tokenizer(source: Source, *, chat: bool, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer alone, which says soon whether the rest is worth its time.

    Raises:
        RequestError: as :func:`load`.
    """
    if source.label == paths.SMOLLM2:
        smollm2.ensure()
    if source.directory is not None:
        refuse_what_is_no_file(source.directory)
        refuse_endless_layers(source.directory)
        refuse_pickled_adapter(source.directory)
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a bar a file is noise beside our own progress
    with _one_line(source):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source.location, padding_side="left", trust_remote_code=trust_remote_code
        )
    if chat and tokenizer.chat_template is None:
        raise RequestError(f"{source.label} has no chat template, which this task needs; try task=countdown")
    if chat:
        _try_template(source, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _try_template(source: Source, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a chat template that does not end on a short message, in a process that can be killed, or that fails."""
    from progrpo_cli.tasks.judging.pool import JudgePool

    message = [{"role": "user", "content": "1 + 1 = ?"}]
    pool = JudgePool("progrpo_cli.policies.template_judge", workers=1, limit=_TEMPLATE_SECONDS)
    try:
        (said,) = pool.judge([{"template": str(tokenizer.chat_template), "messages": message}])
    finally:
        pool.close()
    if said in ("timeout", "memory", "error"):
        raise RequestError(f"cannot load {source.label}: its chat template does not end on one short message ({said})")
    with _one_line(source):
        tokenizer.apply_chat_template(message, add_generation_prompt=True)


def load_generation_config(source: Source, *, trust_remote_code: bool = False) -> Any:
    """What the model's files say of generation, as the loaded model has it; no weights are read.

    Raises:
        RequestError: as :func:`load`.
    """
    from transformers import AutoConfig, GenerationConfig

    with _one_line(source):
        try:
            return GenerationConfig.from_pretrained(source.location)
        except OSError:  # there is no such file: then the model's configuration says it
            config = AutoConfig.from_pretrained(source.location, trust_remote_code=trust_remote_code)
            return GenerationConfig.from_model_config(config)


@contextmanager
def _one_line(source: Source) -> Iterator[None]:
    """Have transformers load something: why it cannot becomes one line, its own tables are left out.

    What a file can make it raise has no end: safetensors' own errors, RuntimeError, TypeError, ZeroDivisionError ...
    """
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    try:
        yield
    except ProgrpoError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in reason:
            reason = "it comes with Python files of its own, which run only with model.trust_remote_code=true"
        raise RequestError(f"cannot load {source.label}: {reason[:300]}") from error
    finally:
        transformers_logging.set_verbosity(before)


def choose_device(wanted: str) -> str:
    """``cpu`` or ``cuda`` for the configuration's ``device``.

    Raises:
        RequestError: a GPU is asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise RequestError("device=cuda: no GPU is visible to torch; try device=cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"
