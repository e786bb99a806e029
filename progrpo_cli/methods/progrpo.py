"""ProGRPO (arXiv 2602.05281): the shared recipe with ARM. The formulas are in :mod:`progrpo_cli.methods.arm`."""

from __future__ import annotations

from typing import ClassVar, Literal

from progrpo_cli.methods.base import ArmConfig, Method


class ProGrpo(Method):
    """A~_i = A_i + alpha (c(q) - c(o_i|q)) if the group's gate is open. With alpha = 0 it is exactly ``grpo``."""

    name: Literal["progrpo"]
    arm: ArmConfig
    takes_arm: ClassVar[bool] = True
