"""From rewards to advantages: how much better an answer was than was to be expected.

Every rule takes rewards [N] and group ids [N] and gives one advantage per answer. An answer outside `scorable` (its
reward is unknown, and may be NaN) gets 0 and takes no part in any mean. A group of one, or of equal rewards, says
nothing and gets exactly 0 wherever the baseline is the group's. What is called the batch is what is passed: several
processes must gather first. Left out: ReMax, which samples a further, greedy answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.objectives.values import gae
from sightline.registry import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewarded:
    """What is known of a step's answers when they are given credit.

    Example: two groups of two answers, the last of which could not be scored: `rewards` [1, 0, 0.5, nan],
    `group` [0, 0, 1, 1], `scorable` [True, True, True, False].
    """

    rewards: Tensor
    """[N] reward of each answer."""
    group: Tensor
    """[N] which prompt an answer hangs on."""
    scorable: Tensor | None = None
    """[N] whether the reward is known; None for all."""
    lengths: Tensor | None = None
    """[N] scored tokens, for `opo`."""
    parts: Tensor | None = None
    """[N, R] the rewards apart, for `gdpo`."""
    baseline: float | None = None
    """Moving baseline so far, for `reinforce`; None takes the mean of these rewards."""


def group_mean_baseline(
    rewards: Float[Tensor, " answer"],
    group: Int[Tensor, " answer"],
    *,
    scorable: Bool[Tensor, " answer"] | None = None,
    weights: Float[Tensor, " answer"] | None = None,
) -> Float[Tensor, " answer"]:
    """Mean reward of each answer's group, weighted if asked; 0 where a group has no scorable answer."""
    rewards, known = _known(rewards, scorable)
    share = known.to(rewards) if weights is None else torch.where(known, weights, 0.0).to(rewards)
    total = _group_sum(share, group)
    mean = _group_sum(share * rewards, group) / torch.where(total > 0, total, 1.0)
    # A mean lies between its extremes; held there, it equals equal rewards to the last bit.
    low = _group_extreme(rewards, group, known, "amin")
    high = _group_extreme(rewards, group, known, "amax")
    return torch.where(total > 0, mean.clamp(low, high), 0.0)[group]


def grpo(
    rewards: Float[Tensor, " answer"],
    group: Int[Tensor, " answer"],
    *,
    scorable: Bool[Tensor, " answer"] | None = None,
    eps: float = 1e-4,
    unbiased: bool = True,
) -> Float[Tensor, " answer"]:
    """(r - mean) / (std + eps) within the group (Shao et al. 2024, sec. 4.1.2).

    `unbiased` divides the variance by G - 1, as the released codes do; False divides by G.
    """
    _, known = _known(rewards, scorable)
    centred = dr_grpo(rewards, group, scorable=scorable)
    count = _group_sum(known.to(centred), group)
    variance = _group_sum(centred.square(), group) / (count - float(unbiased)).clamp(min=1)
    return centred / (variance.sqrt()[group] + eps)


def dr_grpo(
    rewards: Float[Tensor, " answer"],
    group: Int[Tensor, " answer"],
    *,
    scorable: Bool[Tensor, " answer"] | None = None,
) -> Float[Tensor, " answer"]:
    """r - mean of the group, not divided by its spread (Liu et al. 2025): easy and hard prompts weigh the same."""
    known_rewards, known = _known(rewards, scorable)
    return torch.where(known, known_rewards - group_mean_baseline(rewards, group, scorable=scorable), 0.0)


def rloo(
    rewards: Float[Tensor, " answer"],
    group: Int[Tensor, " answer"],
    *,
    scorable: Bool[Tensor, " answer"] | None = None,
) -> Float[Tensor, " answer"]:
    """r - mean of the others in the group (Ahmadian et al. 2024), which is G / (G - 1) times `dr_grpo`."""
    _, known = _known(rewards, scorable)
    centred = dr_grpo(rewards, group, scorable=scorable)
    count = _group_sum(known.to(centred), group)[group]
    return centred * count / (count - 1).clamp(min=1)


def opo(
    rewards: Float[Tensor, " answer"],
    group: Int[Tensor, " answer"],
    lengths: Float[Tensor, " answer"] | Int[Tensor, " answer"],
    *,
    scorable: Bool[Tensor, " answer"] | None = None,
) -> Float[Tensor, " answer"]:
    """r - length-weighted mean of the group: the baseline of least variance (Hao et al. 2025).

    It is optimal when the squared gradient of an answer grows with its length and answers are trained on-policy.
    """
    known_rewards, known = _known(rewards, scorable)
    baseline = group_mean_baseline(rewards, group, scorable=scorable, weights=lengths.to(rewards))
    return torch.where(known, known_rewards - baseline, 0.0)


def reinforce(
    rewards: Float[Tensor, " answer"], *, baseline: float, scorable: Bool[Tensor, " answer"] | None = None
) -> Float[Tensor, " answer"]:
    """r - baseline (Williams 1992). The gradient is unbiased for a baseline that did not see these answers."""
    rewards, known = _known(rewards, scorable)
    return torch.where(known, rewards - baseline, 0.0)


def moving_baseline(
    baseline: float | None,
    rewards: Float[Tensor, " answer"],
    *,
    decay: float = 0.9,
    scorable: Bool[Tensor, " answer"] | None = None,
) -> float | None:
    """The baseline after these rewards: an exponential moving mean of step means. None is one that saw nothing yet.

    Use the old one for these answers' advantages and the new one for the next.
    """
    rewards, known = _known(rewards, scorable)
    if not bool(known.any()):
        return baseline
    mean = float(rewards[known].double().mean())
    return mean if baseline is None else decay * baseline + (1 - decay) * mean


def reinforce_pp(
    rewards: Float[Tensor, " answer"], *, scorable: Bool[Tensor, " answer"] | None = None
) -> Float[Tensor, " answer"]:
    """Rewards whitened over the whole batch, groups or none (REINFORCE++, Hu 2025).

    With KL in the reward or a discount, whiten per token instead: `whiten(token_returns(...), mask)`.
    """
    rewards, known = _known(rewards, scorable)
    return whiten(rewards, known)


def reinforce_pp_baseline(
    rewards: Float[Tensor, " answer"],
    group: Int[Tensor, " answer"],
    *,
    scorable: Bool[Tensor, " answer"] | None = None,
) -> Float[Tensor, " answer"]:
    """r - mean of the group, then over the spread of the batch (REINFORCE++-baseline, Hu 2025)."""
    _, known = _known(rewards, scorable)
    return _over_spread(dr_grpo(rewards, group, scorable=scorable), known, eps=1e-8)


def gdpo(
    rewards: Float[Tensor, "answer reward"],
    group: Int[Tensor, " answer"],
    *,
    weights: Sequence[float] | None = None,
    scorable: Bool[Tensor, " answer"] | None = None,
    eps: float = 1e-4,
) -> Float[Tensor, " answer"]:
    """Each reward normalised in its group, then summed, then over the spread of the batch (GDPO).

    Where rewards are summed first, one of large spread silences the others and different mixtures can collapse to
    one advantage; normalised first, `weights` (one per reward, all 1 by default) say what each counts.
    """
    shares = [1.0] * rewards.shape[1] if weights is None else list(weights)
    if len(shares) != rewards.shape[1]:
        raise ValueError(f"gdpo has {len(shares)} weights for {rewards.shape[1]} rewards; give one for each")
    each = [
        share * grpo(column, group, scorable=scorable, eps=eps)
        for share, column in zip(shares, rewards.unbind(1), strict=True)
    ]
    _, known = _known(rewards[:, 0], scorable)
    return _over_spread(torch.stack(each).sum(0), known, eps=eps**2)


def whiten(
    values: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"],
    *,
    shift_mean: bool = True,
    eps: float = 1e-8,
) -> Float[Tensor, "*shape"]:
    """Scaled to variance 1 (unbiased) over the mask, and to mean 0 unless `shift_mean` is off; 0 outside the mask.

    Off is for rewards, whose sign means something; equal values become exactly 0, or stay equal.
    """
    chosen = values[mask]
    if len(chosen) == 0:
        return torch.zeros_like(values)
    mean = chosen.mean().clamp(chosen.min(), chosen.max())
    centred = torch.where(mask, values - mean, 0.0)
    scaled = _over_spread(centred, mask, eps=eps)
    return scaled if shift_mean else torch.where(mask, scaled + mean, 0.0)


def token_rewards(
    rewards: Float[Tensor, " answer"],
    mask: Bool[Tensor, "answer token"],
    *,
    kl: Float[Tensor, "answer token"] | None = None,
    kl_weight: float = 0.0,
) -> Float[Tensor, "answer token"]:
    """Rewards of answers on their last scored tokens, less `kl_weight` times each token's KL; 0 where not scored."""
    found = torch.zeros(mask.shape, dtype=rewards.dtype, device=rewards.device)
    if mask.shape[1] > 0:
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        found.scatter_(1, (mask * places).argmax(1, keepdim=True), rewards[:, None])
    if kl is not None:
        found = found - kl_weight * kl.detach()
    return torch.where(mask, found, 0.0)


def place_rewards(
    rewards: Float[Tensor, " span"],
    answers: Int[Tensor, " span"],
    tokens: Int[Tensor, " span"],
    mask: Bool[Tensor, "answer token"],
) -> Float[Tensor, "answer token"]:
    """Rewards of sentences or spans, each on the token that ends it; several on one token add up."""
    unscored = ~mask[answers, tokens]
    if bool(unscored.any()):
        first = int(unscored.nonzero()[0])
        raise ValueError(
            f"reward {first} lies on token {int(tokens[first])} of answer {int(answers[first])}, which is not scored "
            "and would be lost; put it on the last scored token of its span"
        )
    found = torch.zeros(mask.shape, dtype=rewards.dtype, device=rewards.device)
    return found.index_put((answers, tokens), rewards, accumulate=True)


def token_returns(
    rewards: Float[Tensor, "answer token"], mask: Bool[Tensor, "answer token"], *, discount: float = 1.0
) -> Float[Tensor, "answer token"]:
    """What each scored token still earns: the discounted sum of the rewards from it on, KL included where they are."""
    return gae(rewards, torch.zeros_like(rewards), mask, discount=discount, lam=1.0)[0]


ADVANTAGES: dict[str, Callable[[Rewarded], Tensor]] = {
    "grpo": lambda given: grpo(given.rewards, given.group, scorable=given.scorable),
    "dr_grpo": lambda given: dr_grpo(given.rewards, given.group, scorable=given.scorable),
    "rloo": lambda given: rloo(given.rewards, given.group, scorable=given.scorable),
    "reinforce": lambda given: reinforce(given.rewards, baseline=_baseline(given), scorable=given.scorable),
    "reinforce_pp": lambda given: reinforce_pp(given.rewards, scorable=given.scorable),
    "reinforce_pp_baseline": lambda given: reinforce_pp_baseline(given.rewards, given.group, scorable=given.scorable),
    "gdpo": lambda given: gdpo(_given(given.parts, "gdpo", "parts"), given.group, scorable=given.scorable),
    "opo": lambda given: opo(
        given.rewards, given.group, _given(given.lengths, "opo", "lengths"), scorable=given.scorable
    ),
}


def advantage(name: str) -> Callable[[Rewarded], Tensor]:
    """The rule of that name with its defaults; gives advantages [N]."""
    if name not in ADVANTAGES:
        raise ValueError(f"advantage {name!r} is unknown{did_you_mean(name, ADVANTAGES)}")
    return ADVANTAGES[name]


def _known(rewards: Tensor, scorable: Tensor | None) -> tuple[Tensor, Tensor]:
    known = torch.ones(rewards.shape, dtype=torch.bool, device=rewards.device) if scorable is None else scorable
    return torch.where(known, rewards, 0.0), known


def _group_sum(values: Tensor, group: Tensor) -> Tensor:
    return values.new_zeros(_num_groups(group)).index_add(0, group, values)


def _group_extreme(values: Tensor, group: Tensor, known: Tensor, which: str) -> Tensor:
    nothing = torch.inf if which == "amin" else -torch.inf
    start = values.new_full((_num_groups(group),), nothing)
    return start.scatter_reduce(0, group, torch.where(known, values, nothing), which)


def _num_groups(group: Tensor) -> int:
    return int(group.max()) + 1 if len(group) else 0


def _over_spread(centred: Tensor, mask: Tensor, *, eps: float) -> Tensor:
    """Values of mean 0 over their standard deviation; what is exactly 0 stays so, because no mean is taken again."""
    variance = centred[mask].square().sum() / (mask.sum() - 1).clamp(min=1)
    return torch.where(mask, centred * (variance + eps).rsqrt(), 0.0)


def _baseline(given: Rewarded) -> float:
    if given.baseline is not None:
        return given.baseline
    return moving_baseline(None, given.rewards, scorable=given.scorable) or 0.0


def _given(value: Tensor | None, name: str, field: str) -> Tensor:
    if value is None:
        raise ValueError(f"advantage {name!r} needs {field}; set Rewarded.{field}")
    return value
