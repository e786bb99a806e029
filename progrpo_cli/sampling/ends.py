"""Which tokens end a completion: one definition for evaluation, validation, training and every back end.

A model may have several. Gemma's instruction-tuned models end a turn with ``<end_of_turn>`` and a text with ``<eos>``;
Phi, Llama 3 and Qwen have two, too. TRL and vLLM stop at all that ``generation_config`` names, and chat models at the
token that their template puts behind an answer. To who knows only the tokenizer's, their answers look cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from progrpo_cli.errors import RequestError, nearest

_ANSWER = "progrpo"  # what the assistant says in a conversation that shows how the template ends an answer


def end_tokens(tokenizer: Any, generation_config: Any, stop_tokens: Sequence[str] = ()) -> tuple[int, ...]:
    """The ids of all tokens that end a completion, sorted.

    Those of ``generation_config.eos_token_id``, the tokenizer's end of sequence, the special token that the chat
    template puts behind an answer, and ``model.stop_tokens``.

    Args:
        tokenizer: the policy's.
        generation_config: the policy's, or None where it has none.
        stop_tokens: texts of further tokens.

    Raises:
        RequestError: there is no such token at all, or a stop token is not one token of the vocabulary.
    """
    of_config = getattr(generation_config, "eos_token_id", None)
    ends = set(of_config) if isinstance(of_config, list | tuple | set) else {of_config}
    ends |= {tokenizer.eos_token_id, _end_of_turn(tokenizer)}
    ends |= {_only_id(tokenizer, text) for text in stop_tokens}
    ids = tuple(sorted(int(end) for end in ends if end is not None))
    if not ids:
        raise RequestError(
            "no token ends a completion: the tokenizer has no end-of-sequence token, and neither "
            "generation_config.json nor the chat template names one; model.stop_tokens=[TEXT] does"
        )
    return ids


def texts_of(tokenizer: Any, ends: Sequence[int]) -> tuple[str, ...]:
    """What the tokens are called in files and messages."""
    return tuple(str(text) for text in tokenizer.convert_ids_to_tokens(list(ends)))


def complete(tokenizer: Any, ends: Sequence[int]) -> None:
    """Give the tokenizer an end-of-sequence and a padding token where it has none: batches and TRL need both."""
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def _end_of_turn(tokenizer: Any) -> int | None:
    """The special token right behind an answer in the chat template, or None."""
    if tokenizer.chat_template is None:
        return None
    conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        shown = tokenizer.apply_chat_template(conversation, tokenize=False)
    except Exception:  # a template is a program, which raises what it likes at what it does not expect
        return None
    _, said, behind = str(shown).rpartition(_ANSWER)
    if not said or not behind.strip():
        return None
    first = next(iter(tokenizer(behind.lstrip(), add_special_tokens=False).input_ids), None)
    added = tokenizer.added_tokens_decoder.get(first)
    is_special = first in tokenizer.all_special_ids or (added is not None and added.special)
    return first if is_special else None


def _only_id(tokenizer: Any, text: str) -> int:
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
