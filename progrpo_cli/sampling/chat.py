"""How a prompt becomes a conversation."""

from __future__ import annotations


def as_chat(prompt: str) -> list[dict[str, str]]:
    """The prompt as the first message of a conversation."""
    return [{"role": "user", "content": prompt}]
