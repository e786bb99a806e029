"""Which way of drawing is right for a model: our own loop, ``generate``, or none.

The loop (:mod:`progrpo_cli.sampling.decoding`) keeps some rows of a cache and leaves others out. For models with a
state of their own, that is wrong or impossible. So each model is asked once, with a few tokens:
what was drawn must have the probabilities of a full pass over the same tokens, with padded prompts and rows that leave.
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
from progrpo_cli.sampling.decoding import Completions, Prompts, choose, draw, in_evaluation

Draw = Callable[..., Completions]

_TOKENS = 4
"""Tokens of each row that are compared."""
_NATS = {torch.float32: 0.02, torch.float64: 0.02}
_NATS_IN_HALF_PRECISION = 0.4
"""What the sums over those tokens may differ by: rounding. A wrong cache differs by several nats."""
_known: WeakKeyDictionary[Any, Draw] = WeakKeyDictionary()


def way_for(model: Any) -> Draw:
    """How to draw from the model, found out at the first call. The caller's random state stays as it is.

    Raises:
        RequestError: neither way gives the probabilities of a full pass; one line says why.
    """
    if model not in _known:
        reasons = []
        for way in (draw, draw_by_generate):
            try:
                difference = _difference(model, way)
            except Exception as error:  # of a cache that has no such operation: anything
                reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")
                continue
            if difference <= _NATS.get(next(model.parameters()).dtype, _NATS_IN_HALF_PRECISION):
                _known[model] = way
                break
            reasons.append(f"a few tokens differ by {difference:.3g} nats from a full pass")
        else:
            raise RequestError(
                f"models of type {model.config.model_type} cannot be sampled from here: our loop: {reasons[0]}; "
                f"generate: {reasons[1]}"
            )
    return _known[model]


def draws_by_loop(model: Any) -> bool:
    """Whether our own loop is right for the model."""
    return way_for(model) is draw


@torch.inference_mode()
def draw_by_generate(
    model: Any,
    prompts: Prompts,
    chances: torch.Tensor,
    *,
    ends: Sequence[int],
    distribution: Callable[[torch.Tensor], torch.Tensor],
) -> Completions:
    """The same completions as :func:`progrpo_cli.sampling.decoding.draw`, by the model's own ``generate``.

    Prompts of one length are read together, without padding: a recurrent model would read that, too.
    """
    limit, rows = chances.shape
    tokens: list[list[int]] = [[] for _ in range(rows)]
    entropies, logps = torch.zeros(rows), torch.zeros(rows)
    lengths = prompts.mask.sum(dim=1)[prompts.rows]
    with _nothing_inherited(model):
        for length in sorted(set(lengths.tolist())):
            some = (lengths == length).nonzero()[:, 0]
            ids = prompts.ids[prompts.rows[some]][:, prompts.ids.size(1) - length :]
            chooser = _Chooser(chances[:, some.to(chances.device)].to(ids.device), length, ends, distribution)
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
            for place, row in enumerate(some.tolist()):
                tokens[row] = chooser.tokens[place]
                entropies[row], logps[row] = chooser.entropies[place].cpu(), chooser.logps[place].cpu()
    return Completions(tokens, entropies, logps)


class _Chooser(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed
    """Chooses each token itself and leaves ``generate`` that one alone."""

    def __init__(
        self,
        chances: torch.Tensor,
        start: int,
        ends: Sequence[int],
        distribution: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self._chances, self._start, self._ends, self._distribution = chances, start, set(ends), distribution
        self.tokens: list[list[int]] = [[] for _ in range(chances.size(1))]
        self.entropies, self.logps = (torch.zeros(chances.size(1), device=chances.device) for _ in range(2))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logp = self._distribution(scores)
        chosen, entropy = choose(logp, self._chances[input_ids.size(1) - self._start])
        going = torch.tensor([not row or row[-1] not in self._ends for row in self.tokens], device=scores.device)
        self.entropies += entropy * going
        self.logps += logp.gather(1, chosen[:, None])[:, 0] * going
        for row, token, goes in zip(self.tokens, chosen.tolist(), going.tolist(), strict=True):
            if goes:
                row.append(token)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, chosen[:, None], 0.0)


@contextmanager
def _nothing_inherited(model: Any) -> Any:
    """Without the settings of the model's own generation_config, which ``generate`` would merge in."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _difference(model: Any, way: Draw) -> float:
    """How far the sums of log-probabilities that ``way`` says are from those of a full pass over each row, in nats."""
    device = next(model.parameters()).device
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in (7, 4))
    prompts = Prompts(
        ids=torch.tensor([first, [0] * 3 + second], device=device),
        mask=torch.tensor([[1] * 7, [0] * 3 + [1] * 4], device=device),
        rows=torch.tensor([0, 1, 0, 1], device=device),
    )
    chances = torch.rand((_TOKENS, 4), generator=generator)
    distribution = partial(torch.log_softmax, dim=-1)
    with in_evaluation(model):
        ends: list[int] = []
        worst = 0.0
        for _ in range(2):  # the second time the rows leave that drew what the first row drew first
            drawn = way(model, prompts, chances, ends=ends, distribution=lambda logits: distribution(logits.float()))
            for row, tokens in enumerate(drawn.tokens):
                start = first if row % 2 == 0 else second
                with torch.inference_mode():
                    whole = model(input_ids=torch.tensor([start + tokens], device=device)).logits[0].float()
                logps = whole.log_softmax(dim=-1)[len(start) - 1 : -1]
                exact = logps.gather(1, torch.tensor(tokens, device=device)[:, None]).sum().item()
                difference = abs(exact - drawn.logps[row].item())
                worst = max(worst, difference if difference == difference else torch.inf)
            ends = [drawn.tokens[0][0]]
    return worst
