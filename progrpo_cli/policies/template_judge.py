"""A chat template on one message, run in a worker of :mod:`progrpo_cli.tasks.judging`, which holds the limits.

A template is a program that came with a model: loops in loops never end, ``'a' * 10**10`` fills the memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def judge(request: Mapping[str, Any]) -> str:
    """``correct`` if it ends; whether with an error is for transformers to say, which knows more of templates."""

    def refuse(message: str) -> None:
        raise ValueError(message)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    made.filters["tojson"] = lambda value, **_: json.dumps(value)
    made.globals.update(raise_exception=refuse, strftime_now=lambda form: form)
    template = made.from_string(request["template"])
    template.render(messages=request["messages"], add_generation_prompt=True, bos_token="", eos_token="", tools=None)
    return "correct"


judge({"template": "{{ messages[0].content | tojson }}", "messages": [{"role": "user", "content": "x"}]})
