"""LoRA adapters, through peft."""

from __future__ import annotations

from peft import LoraConfig
from torch import nn

from progrpo_cli.config import schema
from progrpo_cli.errors import RequestError, nearest


def lora_config(lora: schema.LoraConfig | None, model: nn.Module) -> LoraConfig | None:
    """Options of peft for ``model``, or None without LoRA.

    Raises:
        RequestError: no layer of the model has a name listed in ``target_modules``.
    """
    if lora is None:
        return None
    names = [name for name, _ in model.named_modules()]
    for target in lora.target_modules or []:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            linear = {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
            raise RequestError(f"model.lora.target_modules: no layer is called {target!r}{nearest(target, linear)}")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules or "all-linear",
    )
