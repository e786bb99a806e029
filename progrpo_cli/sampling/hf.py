"""Sampling with transformers, with the exact entropy of every distribution that a token was drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from progrpo_cli.sampling.base import Sample


class HfSampler:
    """A :class:`progrpo_cli.sampling.base.Sampler` on a transformers model.

    Sampling leaves no trace in the caller: random state, training mode and generation configuration come back, so that
    held-out evaluation in the middle of training changes nothing in it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        chat: bool,
    ) -> None:
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._temperature = temperature
        self._top_p = top_p
        self._chat = chat
        # Every field that a hub model's own generation_config likes to change is set: nothing is inherited from it.
        self._generation = GenerationConfig(
            do_sample=True,
            temperature=1.0,  # ours are the warpers in `sample`: the recorder must see what is sampled from
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            pad_token_id=self._tokenizer.pad_token_id,
            bos_token_id=self._tokenizer.bos_token_id,
            eos_token_id=self._tokenizer.eos_token_id,
        )

    def sample(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        """See :class:`progrpo_cli.sampling.base.Sampler`; all prompts are one batch."""
        encoded = self._encode(prompts).to(self._model.device)
        recorder = _Recorder()
        processors = LogitsProcessorList()
        if self._temperature != 1.0:
            processors.append(TemperatureLogitsWarper(self._temperature))
        if self._top_p < 1.0:
            processors.append(TopPLogitsWarper(self._top_p))
        processors.append(recorder)
        with _undisturbed(self._model, self._generation), torch.inference_mode():
            torch.manual_seed(seed)
            sequences = self._model.generate(
                input_ids=encoded.input_ids,
                attention_mask=encoded.attention_mask,
                generation_config=self._generation,
                logits_processor=processors,
            )
        completions = sequences[:, encoded.input_ids.size(1) :].cpu()
        entropies, logps = recorder.finish(completions)
        return [self._sample(*row) for row in zip(completions, entropies, logps, strict=True)]

    def _encode(self, prompts: Sequence[str]) -> Any:
        if not self._chat:
            return self._tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
        return self._tokenizer.apply_chat_template(
            [as_chat(prompt) for prompt in prompts],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            padding=True,
            tokenizer_kwargs={"padding_side": "left"},
        )

    def _sample(self, completion: torch.Tensor, entropies: torch.Tensor, logps: torch.Tensor) -> Sample:
        ends = (completion == self._tokenizer.eos_token_id).nonzero()
        finished = len(ends) > 0
        length = int(ends[0]) + 1 if finished else len(completion)
        return Sample(
            text=self._tokenizer.decode(completion[:length], skip_special_tokens=True),
            tokens=length,
            finished=finished,
            entropy=entropies[:length].mean().item(),
            logprob=logps[:length].sum().item(),
        )


def as_chat(prompt: str) -> list[dict[str, str]]:
    """The prompt as the first message of a conversation."""
    return [{"role": "user", "content": prompt}]


class _Recorder(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed
    """Keeps entropy and log-probabilities of each distribution sampled from; it must be the last processor."""

    def __init__(self) -> None:
        self._entropies: list[torch.Tensor] = []
        self._chosen: list[torch.Tensor] = []
        self._previous: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._previous is not None:
            self._chosen.append(self._previous.gather(1, input_ids[:, -1:]))
        self._previous = scores.float().log_softmax(dim=-1)
        self._entropies.append(torch.special.entr(self._previous.exp()).sum(dim=-1, keepdim=True))  # entr(0) = 0
        return scores

    def finish(self, completions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Entropies and log-probabilities, both (B, C) like the completions."""
        assert self._previous is not None
        last = self._previous.cpu().gather(1, completions[:, -1:])
        chosen = torch.cat([*(column.cpu() for column in self._chosen), last], dim=1)
        return torch.cat([column.cpu() for column in self._entropies], dim=1), chosen


@contextmanager
def _undisturbed(model: Any, generation: GenerationConfig) -> Iterator[None]:
    """Put back what sampling changes. transformers merges a model's own generation_config into ours: it is swapped."""
    before, training = model.generation_config, model.training
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        model.generation_config = generation
        model.eval()
        try:
            yield
        finally:
            model.generation_config = before
            model.train(training)
