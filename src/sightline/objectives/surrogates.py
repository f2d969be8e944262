"""The inner losses of policy gradients: clip rules, ratios, and how tokens are added up.

A rule gives one loss per token, to be made small, from ratios and advantages; nothing is reduced here. Knows nothing
of rewards, batches or models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.objectives.kl import LIMIT, k1
from sightline.objectives.logprobs import answer_means
from sightline.registry import did_you_mean

AGGREGATIONS = ("sequence", "token", "constant")
TRUNCATIONS = ("token", "sequence", "masked")
Ratio = Callable[[Tensor, Tensor, Tensor], Tensor]


def clipped_surrogate(
    ratio: Float[Tensor, "*shape"], advantage: Float[Tensor, "*shape"], *, low: float = 0.2, high: float = 0.2
) -> Float[Tensor, "*shape"]:
    """PPO's clipped loss (Schulman et al. 2017, eq. 7): the larger of -rA and the same with r in [1 - low, 1 + high].

    No gradient once a good token's ratio is above 1 + high or a bad one's below 1 - low. DAPO's clip-higher is
    `high` above `low`.
    """
    return torch.maximum(-ratio * advantage, -ratio.clamp(1 - low, 1 + high) * advantage)


def dual_clipped_surrogate(
    ratio: Float[Tensor, "*shape"],
    advantage: Float[Tensor, "*shape"],
    *,
    low: float = 0.2,
    high: float = 0.2,
    ceiling: float = 3.0,
) -> Float[Tensor, "*shape"]:
    """The clipped loss, and for bad tokens at most -ceiling * A (dual clip, Ye et al. 2020).

    Without it, a bad token that has become much likelier pulls without bound.
    """
    loss = clipped_surrogate(ratio, advantage, low=low, high=high)
    return torch.where(advantage < 0, torch.minimum(loss, -ceiling * advantage), loss)


def two_sided_surrogate(
    ratio: Float[Tensor, "*shape"],
    advantage: Float[Tensor, "*shape"],
    *,
    low: float = 0.2,
    high: float = 0.2,
    delta: float = 4.0,
) -> Float[Tensor, "*shape"]:
    """The clipped loss of min(r, delta) (INTELLECT-2, 2025); for delta above 1 + high it is `dual_clipped_surrogate`
    with delta as its ceiling."""
    bounded = -ratio.clamp(max=delta) * advantage
    return torch.maximum(bounded, -ratio.clamp(1 - low, 1 + high) * advantage)


def cispo(
    logprobs: Float[Tensor, "*shape"],
    ratio: Float[Tensor, "*shape"],
    advantage: Float[Tensor, "*shape"],
    *,
    high: float = 4.0,
) -> Float[Tensor, "*shape"]:
    """-min(r, 1 + high) * A * log pi, the weight taken as given (MiniMax-M1, 2025): every token keeps a gradient."""
    # The clipped ratio weighs the gradient and is no way to change it.
    return -ratio.detach().clamp(max=1 + high) * advantage * logprobs


def plain_reinforce(logprobs: Float[Tensor, "*shape"], advantage: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """-A * log pi (Williams 1992): no ratio, so it is right only for answers of the policy as it stands."""
    return -advantage * logprobs


def token_ratio(
    logprobs: Float[Tensor, "answer token"],
    behaviour: Float[Tensor, "answer token"],
    mask: Bool[Tensor, "answer token"],
) -> Float[Tensor, "answer token"]:
    """pi / behaviour of each scored token, 1 elsewhere; its logarithm is held within 20."""
    return _log_ratio(logprobs, behaviour, mask).exp()


def sequence_ratio(
    logprobs: Float[Tensor, "answer token"],
    behaviour: Float[Tensor, "answer token"],
    mask: Bool[Tensor, "answer token"],
) -> Float[Tensor, "answer token"]:
    """Geometric mean of an answer's token ratios, at each of its tokens (GSPO, Zheng et al. 2025)."""
    ratio = answer_means(_log_ratio(logprobs, behaviour, mask), mask).exp()
    return ratio[:, None].expand(mask.shape)


def sequence_token_ratio(
    logprobs: Float[Tensor, "answer token"],
    behaviour: Float[Tensor, "answer token"],
    mask: Bool[Tensor, "answer token"],
) -> Float[Tensor, "answer token"]:
    """The answer's ratio as the number, each token's own gradient (GSPO-token, Zheng et al. 2025).

    Equal to `sequence_ratio` in number and gradient when an answer has one advantage; made for one per token.
    """
    token = _log_ratio(logprobs, behaviour, mask)
    # The answer's ratio is taken as given; the difference is zero and brings in the token's gradient alone.
    return (answer_means(token, mask).detach()[:, None] + token - token.detach()).exp()


RATIOS: dict[str, Ratio] = {
    "token": token_ratio,
    "sequence": sequence_ratio,
    "sequence_token": sequence_token_ratio,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """How a sampler whose arithmetic is not the trainer's is made up for: by w = trainer / sampler probability.

    Example: `Truncation(level="sequence", cap=2.0)` multiplies the loss of an answer by the product of its tokens' w,
    and by 2 at most (truncated importance sampling, Yao et al. 2025).
    """

    level: str = "token"
    """"token": each token by its own w, biased and steady; "sequence": all tokens of an answer by their product,
    unbiased and noisy; "masked": the same, and an answer whose product lies outside 1 / cap to cap is left out."""
    cap: float = 2.0
    """Above it w does not grow."""

    def __post_init__(self) -> None:
        """ValueError for what is no level or no cap."""
        if self.level not in TRUNCATIONS:
            raise ValueError(f"truncation {self.level!r} is unknown{did_you_mean(self.level, TRUNCATIONS)}")
        if not (math.isfinite(self.cap) and self.cap > 1):
            raise ValueError(f"truncation's cap is {self.cap}; give a finite number above 1")

    def weights(
        self,
        trainer: Float[Tensor, "answer token"],
        sampler: Float[Tensor, "answer token"],
        mask: Bool[Tensor, "answer token"],
    ) -> Float[Tensor, "answer token"]:
        """What each scored token's policy loss is multiplied by, from log-probabilities; logarithms held within 20."""
        weight = self._raw(trainer, sampler, mask)
        return torch.where(self.bounds(trainer, sampler, mask), self._beyond(weight), weight)

    def bounds(
        self,
        trainer: Float[Tensor, "answer token"],
        sampler: Float[Tensor, "answer token"],
        mask: Bool[Tensor, "answer token"],
    ) -> Bool[Tensor, "answer token"]:
        """Scored tokens whose weight is beyond the bounds."""
        weight = self._raw(trainer, sampler, mask)
        beyond = weight > self.cap
        return mask & (beyond | (weight < 1 / self.cap) if self.level == "masked" else beyond)

    def _raw(self, trainer: Tensor, sampler: Tensor, mask: Tensor) -> Tensor:
        log_ratio = _log_ratio(trainer, sampler, mask)
        if self.level == "token":
            return log_ratio.exp()
        return log_ratio.sum(1).clamp(-LIMIT, LIMIT).exp()[:, None].expand(mask.shape)

    def _beyond(self, weight: Tensor) -> Tensor:
        return torch.full_like(weight, 0.0 if self.level == "masked" else self.cap)


def aggregation_weights(
    mask: Bool[Tensor, "answer token"],
    weight: Float[Tensor, " answer"],
    *,
    aggregation: str,
    max_length: int | None = None,
) -> tuple[Float[Tensor, "answer token"], float]:
    """What each token's loss is multiplied by, and the count that the step's total is divided by.

    - "sequence": mean over an answer's tokens, then over answers (GRPO's paper): tokens of long answers weigh less;
    - "token": mean over all tokens of the step (DAPO): long answers weigh more;
    - "constant": sum over tokens, over `max_length` times the answers (Dr. GRPO): no length bias. `max_length` only
      scales, and at 1 an answer is one action.
    """
    weights = weight.double()[:, None] * mask
    if aggregation == "token":
        return weights, float(weights.sum())
    num_answers = float((weight.double() * mask.any(1)).sum())
    if aggregation == "sequence":
        return weights / mask.sum(1, keepdim=True).clamp(min=1), num_answers
    assert aggregation == "constant"
    assert max_length is not None
    return weights, max_length * num_answers


def top_entropy_tokens(
    entropy: Float[Tensor, "answer token"], mask: Bool[Tensor, "answer token"], *, share: float
) -> Bool[Tensor, "answer token"]:
    """The scored tokens of highest entropy in each answer, their number rounded up (after Wang et al. 2025).

    The paper ("Beyond the 80/20 rule") takes the quantile over the whole batch; per answer, the choice does not depend
    on how a step is cut up.
    """
    order = torch.argsort(entropy.detach().masked_fill(~mask, -torch.inf), dim=1, descending=True, stable=True)
    rank = order.argsort(1)
    kept = (mask.sum(1, keepdim=True) * share - 1e-6).ceil()
    return mask & (rank < kept)


def _log_ratio(logprobs: Tensor, behaviour: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, k1(logprobs, behaviour), 0.0)
