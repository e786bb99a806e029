"""Prompts as conversations."""

from __future__ import annotations


def as_chat(prompt: str) -> list[dict[str, str]]:
    """A conversation with the prompt as its first message."""
    return [{"role": "user", "content": prompt}]
