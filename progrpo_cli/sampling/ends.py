"""The tokens that end a completion, defined once for evaluation, validation, training and all back ends.

A model may have several. Gemma's instruction-tuned models end a turn with ``<end_of_turn>`` and a text with ``<eos>``;
Phi, Llama 3 and Qwen also have two. TRL and vLLM stop at all tokens in ``generation_config``, and chat models at the
token that their template puts after an answer. With the tokenizer's token alone, finished answers would look cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from progrpo_cli.errors import RequestError, nearest

_ANSWER = "progrpo"  # the assistant's message in a conversation that shows how the template ends an answer


def end_tokens(tokenizer: Any, generation_config: Any, stop_tokens: Sequence[str] = ()) -> tuple[int, ...]:
    """The ids of all tokens that end a completion, sorted.

    They are ``generation_config.eos_token_id``, the tokenizer's end-of-sequence token, the special token that the chat
    template puts after an answer, and ``model.stop_tokens``.

    Args:
        tokenizer: the policy's tokenizer.
        generation_config: the policy's generation configuration, or None.
        stop_tokens: texts of further tokens.

    Raises:
        RequestError: no token ends a completion, or a stop token is not a single token of the vocabulary.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    ends = set(configured) if isinstance(configured, list | tuple | set) else {configured}
    ends |= {tokenizer.eos_token_id, _end_of_turn(tokenizer)}
    ends |= {_single_id(tokenizer, text) for text in stop_tokens}
    ids = tuple(sorted(int(end) for end in ends if end is not None))
    if not ids:
        raise RequestError(
            "no token ends a completion: neither the tokenizer, nor generation_config.json, nor the chat template has "
            "an end token; set model.stop_tokens=[TEXT]"
        )
    return ids


def token_texts(tokenizer: Any, ends: Sequence[int]) -> tuple[str, ...]:
    """The tokens' texts, for files and messages."""
    return tuple(str(text) for text in tokenizer.convert_ids_to_tokens(list(ends)))


def ensure_special_tokens(tokenizer: Any, ends: Sequence[int]) -> None:
    """Set the tokenizer's end-of-sequence and padding tokens if they are missing: batches and TRL need both."""
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def _end_of_turn(tokenizer: Any) -> int | None:
    """The special token directly after an answer in the chat template, or None."""
    if tokenizer.chat_template is None:
        return None
    conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
    except Exception:  # a template is a program and may raise anything
        return None
    _, answer, rest = str(text).rpartition(_ANSWER)
    if not answer or not rest.strip():
        return None
    first = next(iter(tokenizer(rest.lstrip(), add_special_tokens=False).input_ids), None)
    added = tokenizer.added_tokens_decoder.get(first)
    is_special = first in tokenizer.all_special_ids or (added is not None and added.special)
    return first if is_special else None


def _single_id(tokenizer: Any, text: str) -> int:
    vocabulary = tokenizer.get_vocab()
    if text in vocabulary:
        return int(vocabulary[text])
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        special = list(dict.fromkeys([*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]))
        raise RequestError(
            f"model.stop_tokens: {text!r} is {len(ids)} tokens here, not one token of the vocabulary"
            f"{nearest(text, special)}"
        )
    return int(ids[0])
