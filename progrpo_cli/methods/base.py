"""The base class of methods: the shared recipe, and the places where a method can change it.

The shared recipe (``docs/method.md``) has G completions per prompt, the group-relative advantage, a token-level
normalised clipped surrogate with the ratio in [1 - clip_low, 1 + clip_high], and no KL term. A method is a file of this
package with a subclass of :class:`Method` whose ``name`` is the file's, and a YAML file in ``experiments/method/``. The
fields of the class are the keys under ``method.`` in the configuration. Whatever a method does not override stays as
in the recipe.
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
    """Options of ARM, the advantage re-weighting of ProGRPO (arXiv 2602.05281), for all that the paper leaves open."""

    alpha: Finite
    """Strength of the shift. Our sources publish no value: the default is ours, and `progrpo sweep` can search it."""
    low_fraction: Fraction = 0.2
    """rho: T_low, the tokens of the answer confidence, is the ceil(rho * length) least likely ones of a completion."""
    prompt_low_fraction: Fraction = 1.0
    """The same for the prompt confidence; 1.0 uses all prompt tokens but the first."""
    gate: Literal["any_correct", "mixed"] = "any_correct"
    """Groups that are shifted: those with at least one right sample (the formula), or with right AND wrong ones."""
    scope: Literal["all", "correct"] = "all"
    """Samples of such a group that are shifted."""

    logged: ClassVar[tuple[str, ...]] = (
        "prompt_confidence",
        "answer_confidence",
        "answer_confidence_correct",
        "shift_mean",
        "shift_std",
        "gated_fraction",
        "sign_flips",
    )
    """Like :attr:`Method.logged`, with the prefix ``arm/``. Reports draw all of them."""


@dataclass(frozen=True)
class Rollout:
    """All groups of a rollout, over all processes: N prompts with G completions each."""

    correct: torch.Tensor
    """(N, G) bool: right by the correctness reward alone."""
    scorable: torch.Tensor
    """(N, G) bool: at least one reward function returned a number."""
    rewards: torch.Tensor
    """(N, G): the weighted sum of the reward functions; NaN if not scorable."""
    advantages: torch.Tensor
    """(N, G): TRL's advantages for its option ``scale_rewards``; zero if not scorable."""
    logps: torch.Tensor | None
    """(N, G): log pi_old(o|q) of the whole completion in nats, if ``needs_logps`` is set."""


@dataclass(frozen=True)
class LossTerms:
    """Inputs of the loss of one micro-batch: B completions of at most T tokens, on this process."""

    logps: torch.Tensor
    """(B, T): log pi_theta(o_t) in nats at the sampling temperature, with gradient."""
    old_logps: torch.Tensor
    """(B, T): log pi_old(o_t), without gradient; equal to ``logps`` if the update is on-policy."""
    mask: torch.Tensor
    """(B, T): 1 on completion tokens."""
    advantages: torch.Tensor
    """(B,): the advantages after the method's ``advantages`` and ARM."""
    clip: tuple[float, float]
    """Lower and upper bound of the ratio."""
    reference_logps: torch.Tensor | None
    """(B, T): log pi_ref(o_t) of the policy that training started from, if ``needs_reference`` is set."""
    log_partition: torch.Tensor | None
    """(B,): output of the method's ``head`` for the prompts, with gradient, if it has one."""


class Method(Section):
    """A method's options and behaviour. All defaults are those of the shared recipe."""

    name: str
    version: Positive = 1
    """Version of the method's arithmetic, filled in from :attr:`version_of_code`; users do not set it."""
    clip_low: ClipLow | None
    """The ratio is clipped below at 1 - clip_low; null: no lower bound."""
    clip_high: ClipHigh | None
    """The ratio is clipped above at 1 + clip_high; null: no upper bound."""
    arm: ArmConfig | None = None
    """ARM on top of the method's advantages; null: no ARM."""

    version_of_code: ClassVar[int] = 1
    """Raise it with each change that gives the same configuration another gradient (docs/adding-a-method.md)."""
    takes_arm: ClassVar[bool] = False
    """Whether ARM can be put on top. It makes sense if the group-relative advantage enters the surrogate."""
    needs_logps: ClassVar[bool] = False
    """Whether ``advantages`` reads :attr:`Rollout.logps`."""
    needs_reference: ClassVar[bool] = False
    """Whether the loss reads :attr:`LossTerms.reference_logps`."""
    logged: ClassVar[tuple[str, ...]] = ()
    """The method's own metrics, in each line of ``metrics.jsonl`` as ``<method>/<name>``."""
    drawn: ClassVar[tuple[str, ...]] = ()
    """Metrics that a report draws over training steps, if they were logged, in a figure of the method."""

    @property
    def curves(self) -> list[str]:
        """Names in ``metrics.jsonl`` of the metrics that a report draws. The run's manifest stores them."""
        return curve_names(type(self), with_arm=self.arm is not None)

    @property
    def contract_metrics(self) -> list[str]:
        """Metrics in each line of a run's ``metrics.jsonl`` in addition to those of all methods."""
        return [*(f"{self.name}/{name}" for name in self.logged), *(_ARM_CURVES if self.arm is not None else ())]

    def trl_options(self) -> dict[str, Any]:
        """Options of ``trl.GRPOConfig`` that differ from the shared recipe."""
        return {}

    def misfit(self, *, group_size: int, max_new_tokens: int) -> str | None:
        """A one-line error message if the method does not fit the rest of the configuration, else None."""
        return None

    def length_reward(self, max_new_tokens: int) -> Callable[[int], float] | None:
        """A reward as a function of the completion's length in tokens, added to the other rewards; None: no reward."""
        return None

    def refills(self) -> int:
        """Number of further rollouts that may be sampled to replace groups that are all right or all wrong.

        If such groups remain, their :attr:`Rollout.advantages` are zero.
        """
        return 0

    def advantages(self, rollout: Rollout) -> torch.Tensor:
        """The advantages of a rollout before ARM, (N, G)."""
        return rollout.advantages

    def token_advantages(self, terms: LossTerms) -> torch.Tensor:
        """The advantages that enter the clipped surrogate, (B,) or (B, T). A zero removes the gradient."""
        return terms.advantages

    def token_loss(self, terms: LossTerms) -> torch.Tensor | None:
        """A term (B, T) added to the token losses and normalised like them, over all tokens; None: no term."""
        return None

    def sequence_loss(self, terms: LossTerms) -> torch.Tensor | None:
        """A term (B,) whose mean over completions is added to the loss; None: no term."""
        return None

    def head(self, hidden_size: int) -> tuple[torch.nn.Module, float] | None:
        """A module from a prompt's mean hidden state (B, H) to (B, 1), and its learning rate; None: no module.

        It is trained, saved and resumed with the policy, in its own optimiser group.
        """
        return None

    def metrics(self, terms: LossTerms) -> dict[str, torch.Tensor]:
        """Scalars of the micro-batch to log, as ``<method>/<name>``. The name of a TRL metric replaces that metric.

        Names without a slash must be declared in :attr:`logged`.
        """
        return {}


_ARM_CURVES = tuple(f"arm/{name}" for name in ArmConfig.logged)


def curve_names(method: type[Method], *, with_arm: bool) -> list[str]:
    """Names of the metrics that a report draws for a method's runs, including ARM's if it is on."""
    name = "".join(get_args(method.model_fields["name"].annotation))
    return [*(f"{name}/{metric}" for metric in method.drawn), *(_ARM_CURVES if with_arm else ())]


def group_relative(rewards: torch.Tensor) -> torch.Tensor:
    """GRPO's advantages (r - mean) / (std + 1e-4) of rewards (N, G), std with Bessel's correction.

    A NaN is left out of mean and std and gets the advantage 0.
    """
    import torch

    known = ~torch.isnan(rewards)
    count = known.sum(dim=1, keepdim=True)
    centred = rewards - rewards.nanmean(dim=1, keepdim=True)
    variance = centred.square().nansum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
    return torch.where(known, centred / (variance.sqrt() + 1e-4), torch.zeros_like(rewards))
