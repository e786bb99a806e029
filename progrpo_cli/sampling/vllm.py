"""Sampling with vLLM: n samples per prompt, prefix caching, and the likeliest tokens of each distribution."""

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
"""Log-probabilities requested for each token: vLLM's default limit."""


class VllmSampler:
    """A :class:`progrpo_cli.sampling.base.Sampler` on its own engine, which lives for one call of :meth:`sample`."""

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
        """``model`` is a directory or a hub name, ``ends`` are the ids of the tokens that end a completion."""
        self._tokenizer = tokenizer
        self._chat = chat
        self._engine = {
            "model": model,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "generation_config": "vllm",  # ignore the model's own generation_config
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
            "ignore_eos": True,  # only `stop_token_ids` end a completion, as with transformers
            "detokenize": False,
        }

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """See :class:`progrpo_cli.sampling.base.Sampler`. The prefix cache is emptied before each batch.

        Raises:
            RequestError: vLLM cannot load the model, or a prompt does not fit into it.
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

        counts = Counter(batch.prompts)
        vocabulary = engine.model_config.get_vocab_size()
        top_k = min(TOP_K, vocabulary)
        params = [
            SamplingParams(n=count, seed=derived_seed(f"{batch.seed}-{prompt}"), logprobs=top_k, **self._sampling)
            for prompt, count in counts.items()
        ]
        outputs = engine.generate(self._encode(list(counts)), params, use_tqdm=False)
        samples = {
            prompt: deque(self._sample(completion, top_k, vocabulary) for completion in output.outputs)
            for prompt, output in zip(counts, outputs, strict=True)
        }
        return [samples[prompt].popleft() for prompt in batch.prompts]

    def _draw_greedily(self, engine: Any, batch: Batch) -> list[Sample]:
        """Draw one completion per prompt, the most that vLLM allows. Its logprobs would be those at temperature 1."""
        from vllm import SamplingParams

        prompts = list(dict.fromkeys(batch.prompts))
        outputs = engine.generate(self._encode(prompts), SamplingParams(n=1, **self._sampling), use_tqdm=False)
        samples = {
            prompt: Sample(
                text=self._tokenizer.decode(completion.token_ids, skip_special_tokens=True),
                tokens=len(completion.token_ids),
                finished=completion.finish_reason == "stop",
                logprob=0.0,
                entropy=0.0,
            )
            for prompt, output in zip(prompts, outputs, strict=True)
            for completion in output.outputs
        }
        return [samples[prompt] for prompt in batch.prompts]

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
        return [{"prompt_token_ids": list(prompt_ids)} for prompt_ids in ids]

    def _sample(self, completion: Any, top_k: int, vocabulary: int) -> Sample:
        # For each position vLLM returns a mapping from token to logprob, of the likeliest tokens and the chosen one.
        likeliest = np.array(
            [
                sorted((entry.logprob for entry in tokens.values()), reverse=True)[:top_k]
                for tokens in completion.logprobs
            ]
        )
        chosen = [
            tokens[token].logprob for tokens, token in zip(completion.logprobs, completion.token_ids, strict=True)
        ]
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
