"""Chooses the decoder that is right for a model: our own loop, ``generate``, or neither.

The loop (:mod:`progrpo_cli.sampling.decoding`) removes rows from the model's cache, which is wrong or impossible for
models with another kind of state. So each decoder is tried once per model on a few tokens, with padded prompts and rows
that end early: the log-probabilities of the drawn tokens must be those of a full forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from progrpo_cli.errors import RequestError
from progrpo_cli.sampling.decoding import Completions, Prompts, choose_tokens, draw, evaluation_mode

Decoder = Callable[..., Completions]

_TOKENS = 4
"""Tokens of each row that are compared."""
_NATS = {torch.float32: 0.02, torch.float64: 0.02}
_NATS_IN_HALF_PRECISION = 0.4
"""Tolerance for the sum over those tokens, for rounding. With a wrong cache it differs by several nats."""
_decoders: WeakKeyDictionary[Any, Decoder] = WeakKeyDictionary()


def decoder_for(model: Any) -> Decoder:
    """The decoder for a model, chosen at the first call. The caller's random state does not change.

    Raises:
        RequestError: no decoder gives the probabilities of a full pass. The message says why.
    """
    if model not in _decoders:
        reasons = []
        for decoder in (draw, draw_by_generate):
            try:
                difference = _max_difference(model, decoder)
            except Exception as error:  # a cache without the needed operations may raise anything
                reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")
                continue
            if difference <= _NATS.get(next(model.parameters()).dtype, _NATS_IN_HALF_PRECISION):
                _decoders[model] = decoder
                break
            reasons.append(f"a few tokens differ by {difference:.3g} nats from a full pass")
        else:
            raise RequestError(
                f"models of type {model.config.model_type} cannot be sampled from here: our loop: {reasons[0]}; "
                f"generate: {reasons[1]}"
            )
    return _decoders[model]


def uses_own_loop(model: Any) -> bool:
    """Whether our own loop is the decoder for the model."""
    return decoder_for(model) is draw


@torch.inference_mode()
def draw_by_generate(
    model: Any,
    prompts: Prompts,
    uniforms: torch.Tensor,
    *,
    ends: Sequence[int],
    distribution: Callable[[torch.Tensor], torch.Tensor],
) -> Completions:
    """Draw the same completions as :func:`progrpo_cli.sampling.decoding.draw`, with the model's own ``generate``.

    Prompts of equal length are batched without padding, because a recurrent model would process padding as text.
    """
    limit, rows = uniforms.shape
    tokens: list[list[int]] = [[] for _ in range(rows)]
    entropies, logps = torch.zeros(rows), torch.zeros(rows)
    lengths = prompts.mask.sum(dim=1)[prompts.rows]
    with _default_generation_config(model):
        for length in sorted(set(lengths.tolist())):
            indices = (lengths == length).nonzero()[:, 0]
            ids = prompts.ids[prompts.rows[indices]][:, prompts.ids.size(1) - length :]
            chooser = _TokenChooser(uniforms[:, indices.to(uniforms.device)].to(ids.device), length, ends, distribution)
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=GenerationConfig(
                    max_new_tokens=limit,
                    do_sample=False,
                    eos_token_id=list(ends) or None,
                    pad_token_id=ends[0] if ends else 0,
                    disable_compile=True,
                ),
                logits_processor=LogitsProcessorList([chooser]),
            )
            for index, row in enumerate(indices.tolist()):
                tokens[row] = chooser.tokens[index]
                entropies[row], logps[row] = chooser.entropies[index].cpu(), chooser.logps[index].cpu()
    return Completions(tokens, entropies, logps)


class _TokenChooser(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed
    """Draws each token itself, and masks all others so that ``generate`` must take it."""

    def __init__(
        self,
        uniforms: torch.Tensor,
        start: int,
        ends: Sequence[int],
        distribution: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self._uniforms, self._start, self._ends, self._distribution = uniforms, start, set(ends), distribution
        self.tokens: list[list[int]] = [[] for _ in range(uniforms.size(1))]
        self.entropies, self.logps = (torch.zeros(uniforms.size(1), device=uniforms.device) for _ in range(2))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logp = self._distribution(scores)
        chosen, entropy = choose_tokens(logp, self._uniforms[input_ids.size(1) - self._start])
        active = torch.tensor([not row or row[-1] not in self._ends for row in self.tokens], device=scores.device)
        self.entropies += entropy * active
        self.logps += logp.gather(1, chosen[:, None])[:, 0] * active
        for row, token, is_active in zip(self.tokens, chosen.tolist(), active.tolist(), strict=True):
            if is_active:
                row.append(token)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


@contextmanager
def _default_generation_config(model: Any) -> Any:
    """Replace the model's own generation_config for a while, because ``generate`` would merge its settings in."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _max_difference(model: Any, decoder: Decoder) -> float:
    """The largest difference of a row's summed log-probability between the decoder and a full pass, in nats."""
    device = next(model.parameters()).device
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in (7, 4))
    prompts = Prompts(
        ids=torch.tensor([first, [0] * 3 + second], device=device),
        mask=torch.tensor([[1] * 7, [0] * 3 + [1] * 4], device=device),
        rows=torch.tensor([0, 1, 0, 1], device=device),
    )
    uniforms = torch.rand((_TOKENS, 4), generator=generator)
    distribution = partial(torch.log_softmax, dim=-1)
    with evaluation_mode(model):
        ends: list[int] = []
        worst = 0.0
        for _ in range(2):  # in the second round the first token of the first row ends a completion
            drawn = decoder(
                model, prompts, uniforms, ends=ends, distribution=lambda logits: distribution(logits.float())
            )
            for row, tokens in enumerate(drawn.tokens):
                prompt = first if row % 2 == 0 else second
                with torch.inference_mode():
                    logits = model(input_ids=torch.tensor([prompt + tokens], device=device)).logits[0].float()
                logps = logits.log_softmax(dim=-1)[len(prompt) - 1 : -1]
                exact = logps.gather(1, torch.tensor(tokens, device=device)[:, None]).sum().item()
                difference = abs(exact - drawn.logps[row].item())
                worst = max(worst, difference if difference == difference else torch.inf)
            ends = [drawn.tokens[0][0]]
    return worst
