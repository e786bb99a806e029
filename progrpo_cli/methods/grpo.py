"""GRPO (arXiv 2402.03300, section 4.1.2): the shared recipe without a change."""

from __future__ import annotations

from typing import Literal

from progrpo_cli.methods.base import Method


class Grpo(Method):
    """A_i = (r_i - mean(r)) / (std(r) + 1e-4) over the group."""

    name: Literal["grpo"]
    arm: None = None
