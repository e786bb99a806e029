"""Render a chat template with one message, in a worker of :mod:`progrpo_cli.tasks.judging` with its limits.

A template is a program that comes with a model: nested loops may never end, ``'a' * 10**10`` fills the memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def judge(request: Mapping[str, Any]) -> str:
    """Return ``correct`` if the template ends. If it fails, this raises; transformers then reports the error."""

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    environment.globals.update(raise_exception=refuse, strftime_now=lambda date_format: date_format)
    template = environment.from_string(request["template"])
    template.render(messages=request["messages"], add_generation_prompt=True, bos_token="", eos_token="", tools=None)
    return "correct"


judge({"template": "{{ messages[0].content | tojson }}", "messages": [{"role": "user", "content": "x"}]})
