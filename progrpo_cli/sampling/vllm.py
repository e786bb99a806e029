"""Sampling with vLLM: n samples a prompt, prefix caching, and of each distribution its likeliest tokens."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from progrpo_cli.errors import RequestError
from progrpo_cli.metrics.entropy import topk_entropy
from progrpo_cli.sampling.base import Batch, Sample, derived_seed

TOP_K = 20
"""So many log-probabilities are asked for at each token: vLLM's own limit, unless it is told otherwise."""


class VllmSampler:
    """A :class:`progrpo_cli.sampling.base.Sampler` with an engine of its own, which lives as long as :meth:`sample`."""

    def __init__(
        self,
        model: str,
        tokenizer: Any,
        *,
        dtype: str,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        chat: bool,
        ends: Sequence[int],
        trust_remote_code: bool = False,
    ) -> None:
        """``model`` is a directory or a hub name, ``ends`` are :func:`end_tokens`; the rest is as for transformers."""
        self._tokenizer = tokenizer
        self._chat = chat
        self._engine = {
            "model": model,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "generation_config": "vllm",  # nothing is inherited from the model's own generation_config
            "logprobs_mode": "processed_logprobs",  # of the distribution that is sampled from
            "enable_prefix_caching": True,
            "disable_log_stats": True,
        }
        self._sampling = {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": 0,
            "max_tokens": max_new_tokens,
            "stop_token_ids": list(ends),
            "ignore_eos": True,  # these alone end a completion, as with transformers
            "detokenize": False,
        }

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """See :class:`progrpo_cli.sampling.base.Sampler`; a batch is one call, with nothing left in the cache before.

        Raises:
            RequestError: vLLM cannot load the model.
        """
        from vllm import LLM

        try:
            engine = LLM(**self._engine)
        except (OSError, ValueError, RuntimeError) as error:
            raise RequestError(
                f"vLLM cannot load {self._engine['model']}: {' '.join(str(error).split())[:300]}"
            ) from error
        try:
            room = engine.model_config.max_model_len
            for batch in batches:
                longest = max(len(encoded["prompt_token_ids"]) for encoded in self._encode(list(set(batch.prompts))))
                if longest >= room:
                    raise RequestError(f"the longest prompt has {longest} tokens: the model has {room} positions")
                engine.reset_prefix_cache()
                yield self._draw(engine, batch)
        finally:
            engine.llm_engine.engine_core.shutdown()
            del engine
            gc.collect()

    def _draw(self, engine: Any, batch: Batch) -> list[Sample]:
        if self._sampling["temperature"] == 0:
            return self._draw_greedily(engine, batch)
        from vllm import SamplingParams

        wanted = Counter(batch.prompts)
        vocabulary = engine.model_config.get_vocab_size()
        known = min(TOP_K, vocabulary)
        asked = [
            SamplingParams(n=count, seed=derived_seed(f"{batch.seed}-{prompt}"), logprobs=known, **self._sampling)
            for prompt, count in wanted.items()
        ]
        outputs = engine.generate(self._encode(list(wanted)), asked, use_tqdm=False)
        drawn = {
            prompt: deque(self._sample(completion, known, vocabulary) for completion in output.outputs)
            for prompt, output in zip(wanted, outputs, strict=True)
        }
        return [drawn[prompt].popleft() for prompt in batch.prompts]

    def _draw_greedily(self, engine: Any, batch: Batch) -> list[Sample]:
        """One completion a prompt: vLLM draws no more, and its logprobs would be those at temperature 1."""
        from vllm import SamplingParams

        wanted = list(dict.fromkeys(batch.prompts))
        outputs = engine.generate(self._encode(wanted), SamplingParams(n=1, **self._sampling), use_tqdm=False)
        drawn = {
            prompt: Sample(
                text=self._tokenizer.decode(completion.token_ids, skip_special_tokens=True),
                tokens=len(completion.token_ids),
                finished=completion.finish_reason == "stop",
                logprob=0.0,
                entropy=0.0,
            )
            for prompt, output in zip(wanted, outputs, strict=True)
            for completion in output.outputs
        }
        return [drawn[prompt] for prompt in batch.prompts]

    def _encode(self, prompts: list[str]) -> list[dict[str, list[int]]]:
        if self._chat:
            from progrpo_cli.sampling.chat import as_chat

            ids = [
                self._tokenizer.apply_chat_template(
                    as_chat(prompt), add_generation_prompt=True, tokenize=True, return_dict=False
                )
                for prompt in prompts
            ]
        else:
            ids = self._tokenizer(prompts).input_ids
        return [{"prompt_token_ids": list(each)} for each in ids]

    def _sample(self, completion: Any, known: int, vocabulary: int) -> Sample:
        # At each token the chosen one and the likeliest, which may hold it too: a mapping from token to its logprob.
        likeliest = np.array(
            [sorted((entry.logprob for entry in at.values()), reverse=True)[:known] for at in completion.logprobs]
        )
        chosen = [at[token].logprob for at, token in zip(completion.logprobs, completion.token_ids, strict=True)]
        bounds = topk_entropy(likeliest, vocabulary)
        return Sample(
            text=self._tokenizer.decode(completion.token_ids, skip_special_tokens=True),
            tokens=len(completion.token_ids),
            finished=completion.finish_reason == "stop",
            logprob=float(sum(chosen)),
            entropy=None,
            entropy_topk=float(bounds.entropy.mean()),
            missing_mass=float(bounds.missing_mass.mean()),
            entropy_at_most=float(bounds.at_most.mean()),
        )
