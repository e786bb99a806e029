"""What a method is: the shared recipe, and the places where a method may change it.

The shared recipe (``docs/method.md``): G completions a prompt, the group-relative advantage, a token-level normalised
clipped surrogate with the ratio in [1 - clip_low, 1 + clip_high], no KL term. A method is one file of this package with
one subclass of :class:`Method` named as the file, and one YAML file in ``experiments/method/``. Its fields are the keys
below ``method.`` of the configuration; what it does not override is the recipe's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from progrpo_cli.section import Finite, Fraction, Positive, Section

if TYPE_CHECKING:
    import torch

ClipLow = Annotated[float, Field(gt=0.0, lt=1.0)]
ClipHigh = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class ArmConfig(Section):
    """ARM, the advantage re-weighting of ProGRPO (arXiv 2602.05281): what the paper leaves open is an option here."""

    alpha: Finite
    """Strength of the shift. No value is published in the sources we hold: ours, and what `progrpo sweep` is for."""
    low_fraction: Fraction = 0.2
    """rho: the answer confidence is taken over the ceil(rho * length) least likely tokens of a completion."""
    prompt_low_fraction: Fraction = 1.0
    """The same for the prompt confidence; 1.0 takes every prompt token but the first."""
    gate: Literal["any_correct", "mixed"] = "any_correct"
    """Groups whose advantages are shifted: at least one right (the formula), or right AND wrong ones in it."""
    scope: Literal["all", "correct"] = "all"
    """Samples that are shifted inside such a group."""

    logged: ClassVar[tuple[str, ...]] = (
        "prompt_confidence",
        "answer_confidence",
        "answer_confidence_correct",
        "shift_mean",
        "shift_std",
        "gated_fraction",
        "sign_flips",
    )
    """As :attr:`Method.logged`, under ``arm/``; reports draw all of it."""


@dataclass(frozen=True)
class Rollout:
    """All groups of a rollout, over all processes: N prompts with G completions each."""

    correct: torch.Tensor
    """(N, G) bool: right by the correctness reward alone."""
    scorable: torch.Tensor
    """(N, G) bool: at least one reward function gave a number."""
    rewards: torch.Tensor
    """(N, G): the weighted sum of the reward functions; NaN where not scorable."""
    advantages: torch.Tensor
    """(N, G): TRL's, as ``scale_rewards`` says; zero where not scorable."""
    logps: torch.Tensor | None
    """(N, G): log pi_old(o|q) of the whole completion in nats, if the method says ``needs_logps``."""


@dataclass(frozen=True)
class LossTerms:
    """One micro-batch in the loss: B completions of at most T tokens, on this process."""

    logps: torch.Tensor
    """(B, T): log pi_theta(o_t), with gradient; nats, at the sampling temperature."""
    old_logps: torch.Tensor
    """(B, T): log pi_old(o_t), no gradient; equal to ``logps`` where the update is on-policy."""
    mask: torch.Tensor
    """(B, T): 1 on completion tokens."""
    advantages: torch.Tensor
    """(B,): what the method (and ARM) made of the advantages."""
    clip: tuple[float, float]
    """The bounds of the ratio."""
    reference_logps: torch.Tensor | None
    """(B, T): log pi_ref(o_t) of the policy that training started from, if the method says ``needs_reference``."""
    log_partition: torch.Tensor | None
    """(B,): what the method's ``head`` makes of the prompts, with gradient, if it has one."""


class Method(Section):
    """A method's options and what it does; every default is the shared recipe."""

    name: str
    version: Positive = 1
    """Of the method's arithmetic when the configuration was made; nobody sets it, see :attr:`version_of_code`."""
    clip_low: ClipLow | None
    """The ratio is clipped below at 1 - clip_low; null: it is not."""
    clip_high: ClipHigh | None
    """The ratio is clipped above at 1 + clip_high; null: it is not."""
    arm: ArmConfig | None = None
    """ARM on top of the method's advantages; null: none."""

    version_of_code: ClassVar[int] = 1
    """Raised with every change after which the same configuration has another gradient (docs/adding-a-method.md)."""
    takes_arm: ClassVar[bool] = False
    """Whether ARM on top of it makes sense: it does where the group-relative advantage enters the surrogate."""
    needs_logps: ClassVar[bool] = False
    """Whether ``advantages`` looks at :attr:`Rollout.logps`."""
    needs_reference: ClassVar[bool] = False
    """Whether the loss looks at :attr:`LossTerms.reference_logps`."""
    logged: ClassVar[tuple[str, ...]] = ()
    """Metrics of its own that every line of ``metrics.jsonl`` has, as ``<method>/<name>``."""
    drawn: ClassVar[tuple[str, ...]] = ()
    """Metrics that a report draws over training steps where they were logged, in a figure of the method's own."""

    @property
    def curves(self) -> list[str]:
        """The metrics that a report draws of a run, by their names in ``metrics.jsonl``; its manifest has them."""
        return curve_names(type(self), with_arm=self.arm is not None)

    @property
    def contract_metrics(self) -> list[str]:
        """What every line of a run's ``metrics.jsonl`` has besides what it has with every method."""
        return [*(f"{self.name}/{name}" for name in self.logged), *(_ARM_CURVES if self.arm is not None else ())]

    def trl_options(self) -> dict[str, Any]:
        """Options of ``trl.GRPOConfig`` that differ from the shared recipe's."""
        return {}

    def misfit(self, *, group_size: int, max_new_tokens: int) -> str | None:
        """What does not go together with the rest of the configuration, in a line; None: nothing."""
        return None

    def length_reward(self, max_new_tokens: int) -> Callable[[int], float] | None:
        """A reward on the completion's length in tokens, added to the others; None: none."""
        return None

    def refills(self) -> int:
        """How many more rollouts may be sampled to replace groups that are all right or all wrong.

        Such groups that are left nevertheless have zeros in :attr:`Rollout.advantages`.
        """
        return 0

    def advantages(self, rollout: Rollout) -> torch.Tensor:
        """(N, G) advantages of a rollout, before ARM."""
        return rollout.advantages

    def token_advantages(self, terms: LossTerms) -> torch.Tensor:
        """(B,) or (B, T): the advantages as they enter the clipped surrogate; zero takes the gradient away."""
        return terms.advantages

    def token_loss(self, terms: LossTerms) -> torch.Tensor | None:
        """(B, T) added to the token losses, normalised as the shared recipe does, over all tokens; None: nothing."""
        return None

    def sequence_loss(self, terms: LossTerms) -> torch.Tensor | None:
        """(B,) whose mean over completions is added to the loss; None: nothing."""
        return None

    def head(self, hidden_size: int) -> tuple[torch.nn.Module, float] | None:
        """A module of the method's own from a prompt's mean hidden state (B, H) to (B, 1), and its learning rate.

        It is trained, saved and resumed with the policy, in an optimiser group of its own. None: there is none.
        """
        return None

    def metrics(self, terms: LossTerms) -> dict[str, torch.Tensor]:
        """Scalars of the micro-batch worth logging, as ``<method>/<name>``; a name of TRL's takes TRL's place.

        The names without a slash are declared in :attr:`logged`.
        """
        return {}


_ARM_CURVES = tuple(f"arm/{name}" for name in ArmConfig.logged)


def curve_names(method: type[Method], *, with_arm: bool) -> list[str]:
    """The metrics that a report draws of a method's runs, ARM's among them where it is on."""
    name = "".join(get_args(method.model_fields["name"].annotation))
    return [*(f"{name}/{metric}" for metric in method.drawn), *(_ARM_CURVES if with_arm else ())]


def without_gradient_on(terms: LossTerms, chosen: torch.Tensor) -> torch.Tensor:
    """The advantages (B, T) with zero on the ``chosen`` (B, T) tokens."""
    return terms.advantages.unsqueeze(1).expand_as(terms.logps).masked_fill(chosen, 0.0)


def group_relative(rewards: torch.Tensor) -> torch.Tensor:
    """(N, G) rewards to GRPO's (r - mean) / (std + 1e-4), std with Bessel's correction; NaN counts nowhere, gets 0."""
    import torch

    known = ~torch.isnan(rewards)
    how_many = known.sum(dim=1, keepdim=True)
    centred = rewards - rewards.nanmean(dim=1, keepdim=True)
    variance = centred.square().nansum(dim=1, keepdim=True) / (how_many - 1).clamp(min=1)
    return torch.where(known, centred / (variance.sqrt() + 1e-4), torch.zeros_like(rewards))
