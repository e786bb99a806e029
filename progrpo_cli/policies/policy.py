"""Find and load a policy: a model directory, a hub name, or one of two policies that come with packages.

``progrpo/lab-base`` comes with this package, ``progrpo/smollm2-135m`` with the extra ``smollm``.
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
from progrpo_cli.policies.checks import (
    check_adapter,
    check_files,
    check_finite,
    check_sizes,
    check_weights,
)
from progrpo_cli.records.layout import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TEMPLATE_SECONDS = 20.0  # an ordinary template takes a millisecond
LOCAL_PREFIXES = ("runs", "policy", "checkpoints", ".", "..", "/")
"""First parts of local paths. They are not read as owners on the hub."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Source:
    """Where a policy is loaded from."""

    label: str
    """The policy's name in files and tables."""
    location: str
    """A directory or a hub name."""

    @property
    def is_packaged(self) -> bool:
        """Whether the policy comes with a package, so that its label means the same weights on every machine."""
        return self.label in (paths.LAB_BASE, paths.SMOLLM2)

    @property
    def directory(self) -> Path | None:
        """The directory, or None for a hub name."""
        path = Path(self.location)
        return path if path.is_dir() else None

    def fingerprint(self) -> str:
        """Return a digest of the names, sizes and times of the weight files; empty for a hub name.

        It changes when the weights on disk change. Policies of packages have one that does not depend on times.
        """
        if self.label == paths.SMOLLM2:
            return smollm2.identity()
        if self.directory is None:
            return ""
        if self.label == paths.LAB_BASE:  # its time depends on the installation
            return hashlib.sha256((self.directory / "model.safetensors").read_bytes()).hexdigest()[:12]
        files = sorted(self.directory.glob("*.safetensors"))
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(repr(stats).encode()).hexdigest()[:12]


def resolve(target: str) -> Source:
    """Find a policy without loading anything.

    Raises:
        RequestError: the target is neither a package's policy, an existing model directory nor a name ``owner/name``;
            or the policy's package is not installed.
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
    if target != path.name and (path.parent.is_dir() or path.parts[0] in LOCAL_PREFIXES):
        siblings = [str(sibling) for sibling in path.parent.glob("*") if sibling.is_dir()]
        raise RequestError(f"there is no directory {target}{nearest(target, siblings) if siblings else ''}")
    if not _HUB_NAME.fullmatch(target):
        raise RequestError(f"{target!r} is neither an existing path nor a hub name (owner/name)")
    return Source(target, target)


def load(
    source: Source, dtype: str, device: str, *, chat: bool, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the weights (only from safetensors) and the tokenizer.

    Args:
        source: location of the policy.
        dtype: float32 or bfloat16.
        device: cpu or cuda.
        chat: whether a chat template is needed.
        trust_remote_code: run Python files that come with the model. Without it, a model that needs them is refused.

    Raises:
        RequestError: the policy cannot be loaded, or has no chat template.
    """
    tokenizer, model = _load_with_cache(source, dtype, chat, trust_remote_code)
    return model.to(device), tokenizer


_cache: dict[tuple[str, str, str, bool, bool], Any] | None = None


@contextmanager
def cache_policies() -> Iterator[None]:
    """Context manager. Inside it, :func:`load` reads each policy from disk once and returns copies.

    Policies of runs are not cached.
    """
    global _cache
    _cache = {}
    try:
        yield
    finally:
        _cache = None


def _load_with_cache(source: Source, dtype: str, chat: bool, trust_remote_code: bool) -> tuple[Any, Any]:
    if _cache is None or source.directory is None or Layout(source.directory.parent).manifest_path.exists():
        return _read(source, dtype, chat, trust_remote_code)
    key = (source.location, source.fingerprint(), dtype, chat, trust_remote_code)
    if key not in _cache:
        _cache[key] = _read(source, dtype, chat, trust_remote_code)
    tokenizer, model = copy.deepcopy(_cache[key])
    return tokenizer, model


def _read(source: Source, dtype: str, chat: bool, trust_remote_code: bool) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(source, chat=chat, trust_remote_code=trust_remote_code)
    with _errors_in_one_line(source):
        model: Any
        model, loading_info = AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,  # our own message names them
            output_loading_info=True,
        )
    check_weights(source.label, loading_info, getattr(model, "all_tied_weights_keys", None) or {})
    check_finite(source.label, model)
    return tokenizer, model


def load_tokenizer(source: Source, *, chat: bool, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load only the tokenizer. This finds many errors before the weights are loaded.

    Raises:
        RequestError: the tokenizer cannot be loaded, has no chat template, or comes with files that are refused.
    """
    if source.label == paths.SMOLLM2:
        smollm2.ensure_converted()
    if source.directory is not None:
        check_files(source.directory)
        check_sizes(source.directory)
        check_adapter(source.directory)
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # we show our own progress
    with _errors_in_one_line(source):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source.location, padding_side="left", trust_remote_code=trust_remote_code
        )
    if chat and tokenizer.chat_template is None:
        raise RequestError(f"{source.label} has no chat template, which this task needs; try task=countdown")
    if chat:
        _check_template(source, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_template(source: Source, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a chat template that fails, or does not end, on a short message. A process that can be killed tries it."""
    from progrpo_cli.tasks.judging.pool import JudgePool

    message = [{"role": "user", "content": "1 + 1 = ?"}]
    pool = JudgePool("progrpo_cli.policies.template_judge", workers=1, limit=_TEMPLATE_SECONDS)
    try:
        (result,) = pool.judge([{"template": str(tokenizer.chat_template), "messages": message}])
    finally:
        pool.close()
    if result in ("timeout", "memory", "error"):
        raise RequestError(
            f"cannot load {source.label}: its chat template does not end on one short message ({result})"
        )
    with _errors_in_one_line(source):
        tokenizer.apply_chat_template(message, add_generation_prompt=True)


def load_generation_config(source: Source, *, trust_remote_code: bool = False) -> Any:
    """Load the generation configuration of the model, without its weights.

    Raises:
        RequestError: the model's configuration cannot be loaded.
    """
    from transformers import AutoConfig, GenerationConfig

    with _errors_in_one_line(source):
        try:
            return GenerationConfig.from_pretrained(source.location)
        except OSError:  # there is no such file; transformers then derives it from the model's configuration
            config = AutoConfig.from_pretrained(source.location, trust_remote_code=trust_remote_code)
            return GenerationConfig.from_model_config(config)


@contextmanager
def _errors_in_one_line(source: Source) -> Iterator[None]:
    """Context manager. Any error of transformers inside it becomes a RequestError with one line; its logs are hidden.

    A broken file can raise almost any error: safetensors' own, RuntimeError, TypeError, ZeroDivisionError ...
    """
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
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
        transformers_logging.set_verbosity(verbosity)


def choose_device(requested: str) -> str:
    """Return ``cpu`` or ``cuda`` for the configuration's ``device``.

    Raises:
        RequestError: a GPU is requested and none is available.
    """
    import torch

    available = torch.cuda.is_available()
    if requested == "cuda" and not available:
        raise RequestError("device=cuda: no GPU is visible to torch; try device=cpu")
    return "cuda" if available and requested != "cpu" else "cpu"
