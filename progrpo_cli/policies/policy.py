"""Finding and loading a policy: a model directory, a hub name, or one of the two that packages carry.

``progrpo/lab-base`` ships with this package, ``progrpo/smollm2-135m`` with the extra ``smollm``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progrpo_cli.config import paths
from progrpo_cli.errors import ProgrpoError, RequestError, nearest
from progrpo_cli.policies import smollm2
from progrpo_cli.records.layout import Layout
from progrpo_cli.untrusted import read_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TEMPLATE_SECONDS = 20.0  # an ordinary template takes a millisecond
MOST_LAYERS, LARGEST_SIZE = 2048, 1 << 24
"""Of a model: the deepest has 200 layers; the largest vocabulary 300,000 tokens."""
_NO_SIZES = ("max_position_embeddings", "model_max_length", "max_length", "original_max_position_embeddings")
"""Numbers of positions, for which nothing is made."""
_DESCRIBES = 256 << 20
"""Bytes of a file of a model that is not its weights: the largest vocabularies have 40 MB."""
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
    _refuse_what_is_not_whole(source, loaded, getattr(model, "all_tied_weights_keys", None) or {})
    _refuse_what_is_not_finite(source, model)
    return tokenizer, model


def _refuse_what_is_not_whole(source: Source, loaded: Mapping[str, Any], tied: Mapping[str, str]) -> None:
    """Refuse weights that are not all there: transformers fills in random numbers, says so in a table, and goes on.

    Args:
        source: for the message.
        loaded: what transformers says of the tensors it missed, did not expect, or found in another shape.
        tied: tensors that are another one under a second name.

    Raises:
        RequestError: names the first tensor of each kind.
    """
    missing = sorted(set(loaded["missing_keys"]) - set(tied))
    unexpected = sorted(set(loaded["unexpected_keys"]) - set(tied))
    shapes = {str(name): (tuple(held), tuple(needed)) for name, held, needed in loaded["mismatched_keys"]}
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing ({missing[0]})")
    if shapes:
        name, (held, needed) = min(shapes.items())
        problems.append(f"{len(shapes)} have another shape ({name}: {held}, not {needed})")
    if unexpected:
        problems.append(f"{len(unexpected)} belong to another model ({unexpected[0]})")
    problems += [" ".join(str(message).split())[:200] for message in loaded.get("error_msgs") or ()]
    if problems:
        raise RequestError(f"cannot load {source.label}: its weights are not whole: {'; '.join(problems)}")


def _refuse_what_is_not_finite(source: Source, model: Any) -> None:
    import torch

    for name, weight in model.named_parameters():
        if not weight.is_meta and not bool(torch.isfinite(weight).all()):
            raise RequestError(f"cannot load {source.label}: {name} holds values that are not finite (NaN or infinity)")


def load_tokenizer(source: Source, *, chat: bool, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer alone, which says soon whether the rest is worth its time.

    Raises:
        RequestError: as :func:`load`.
    """
    if source.label == paths.SMOLLM2:
        smollm2.ensure()
    if source.directory is not None:
        _refuse_what_is_no_file(source.directory)
        _refuse_endless_layers(source.directory)
        _refuse_pickled_adapter(source.directory)
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


def _refuse_what_is_no_file(directory: Path) -> None:
    """Transformers opens what has a name that it knows: a pipe would be waited for, a device has no end."""
    for entry in sorted(directory.iterdir()):
        try:
            mode, size = entry.stat().st_mode, entry.stat().st_size
        except OSError:  # a link that leads nowhere: it is missing
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise RequestError(f"cannot load {directory}: {entry.name} is not a regular file")
        if entry.suffix in (".json", ".jinja", ".txt", ".model") and size > _DESCRIBES:
            raise RequestError(f"cannot load {directory}: {entry.name} has {size >> 20} MiB")


def _refuse_endless_layers(directory: Path) -> None:
    """A configuration of a kilobyte can ask for ten million layers, which are made before any weight is looked for."""
    try:
        held = json.loads(read_text(directory / "config.json"))
    except (OSError, ValueError, RecursionError):  # transformers says what is wrong
        return
    sections = [held, *held.values()] if isinstance(held, dict) else []
    for section in sections:
        for key, value in section.items() if isinstance(section, dict) else ():
            most = MOST_LAYERS if "layers" in key or key in ("n_layer", "depth") else LARGEST_SIZE
            if isinstance(value, int) and value > most and key not in _NO_SIZES:
                raise RequestError(f"cannot load {directory}: config.json says {key}={str(value)[:30]}, above {most:,}")


def _refuse_pickled_adapter(directory: Path) -> None:
    """Without safetensors transformers takes an adapter from a pickle, whatever it is told of the weights."""
    if (directory / "adapter_config.json").is_file() and not (directory / "adapter_model.safetensors").is_file():
        raise RequestError(f"cannot load {directory}: its adapter has no weights in safetensors")


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
