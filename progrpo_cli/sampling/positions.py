"""Whether prompts and what follows them have room in a model."""

from __future__ import annotations

from typing import Any

from progrpo_cli.errors import RequestError


def require_positions(config: Any, longest: int, max_new_tokens: int) -> None:
    """Refuse prompts that leave a model no position for a single token.

    A model with a table of positions needs room for the whole completion; one with rotary positions goes on beyond the
    length that it was trained with, if not well, and there the prompt alone has to fit.

    Args:
        config: the model's.
        longest: tokens of the longest prompt.
        max_new_tokens: the limit on a completion.

    Raises:
        RequestError: there is no room; says how much there is.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return
    is_rotary = getattr(text, "rope_parameters", None) is not None or getattr(text, "rope_theta", None) is not None
    needed = longest + (1 if is_rotary else max_new_tokens)
    if needed > positions:
        of_completion = "" if is_rotary else f", and a completion up to {max_new_tokens} (task.max_new_tokens)"
        raise RequestError(
            f"the longest prompt has {longest} tokens{of_completion}: the model has {positions} positions for both"
        )
