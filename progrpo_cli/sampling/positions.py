"""Checks that prompts and completions fit into a model's positions."""

from __future__ import annotations

from typing import Any

from progrpo_cli.errors import RequestError


def require_positions(config: Any, longest: int, max_new_tokens: int) -> None:
    """Check that the longest prompt leaves room for a completion.

    A model with a table of positions needs room for the whole completion. A model with rotary positions can continue
    beyond its trained length, though less well, so that only the prompt and one token must fit.

    Args:
        config: the model's configuration.
        longest: tokens of the longest prompt.
        max_new_tokens: token limit of a completion.

    Raises:
        RequestError: there is not enough room. The message gives the number of positions.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return
    is_rotary = getattr(text, "rope_parameters", None) is not None or getattr(text, "rope_theta", None) is not None
    needed = longest + (1 if is_rotary else max_new_tokens)
    if needed > positions:
        completion = "" if is_rotary else f", and a completion up to {max_new_tokens} (task.max_new_tokens)"
        raise RequestError(
            f"the longest prompt has {longest} tokens{completion}: the model has {positions} positions for both"
        )
