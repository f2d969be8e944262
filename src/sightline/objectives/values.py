"""The critic's side of PPO: advantages and returns from values, the value loss, and how much the critic explains.

Answers are rows, scored tokens are steps; a token that is not scored is no step, and what lies there is never read.
Knows neither the model that gives the values nor where rewards come from: they may lie on the last token, on the ends
of sentences or of spans (`advantages.token_rewards`, `advantages.place_rewards`).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def gae(
    rewards: Float[Tensor, "answer token"],
    values: Float[Tensor, "answer token"],
    mask: Bool[Tensor, "answer token"],
    *,
    discount: float,
    lam: float,
) -> tuple[Float[Tensor, "answer token"], Float[Tensor, "answer token"]]:
    """Generalised advantage estimates and the returns to fit values to (Schulman et al. 2016, eq. 16).

    `values` are those of the state before each token. With d_t = r_t + discount * V_{t+1} - V_t and V = 0 after the
    last scored token, A_t is the sum of (discount * lam)^k * d_{t+k}, and the return is A_t + V_t. `lam=1` gives the
    whole discounted return less the value, `lam=0` one step of it. Both are 0 at tokens that are not scored, and carry
    no gradient.
    """
    values = values.detach()
    advantages = torch.zeros_like(values)
    advantage = next_value = values.new_zeros(len(values))
    for step in reversed(range(values.shape[1])):
        scored = mask[:, step]
        surprise = rewards[:, step] + discount * next_value - values[:, step]
        advantage = torch.where(scored, surprise + discount * lam * advantage, advantage)
        next_value = torch.where(scored, values[:, step], next_value)
        advantages[:, step] = torch.where(scored, advantage, 0.0)
    return advantages, torch.where(mask, advantages + values, 0.0)


def value_loss(
    values: Float[Tensor, "*shape"],
    returns: Float[Tensor, "*shape"],
    *,
    old_values: Float[Tensor, "*shape"] | None = None,
    clip: float | None = None,
) -> Float[Tensor, "*shape"]:
    """Half the squared error of each value, unreduced.

    With `clip` e the larger of that and the same of the value held within e of `old_values`, the critic's at the
    rollout (PPO's released code, not its paper): a step further than e towards the return brings nothing more.
    """
    error = (values - returns).square()
    if clip is not None:
        assert old_values is not None, "clip holds values near old_values: give them"
        held = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (held - returns).square())
    return 0.5 * error


def explained_variance(
    values: Float[Tensor, "*shape"], returns: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]
) -> float:
    """1 - Var(returns - values) / Var(returns) over scored tokens; 1 is perfect, 0 is no better than a constant."""
    totals = value_moments(values, returns, mask)
    count = max(1.0, float(mask.sum()))
    return explained_variance_of({name: total / count for name, total in totals.items()})


def value_moments(
    values: Float[Tensor, "*shape"], returns: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]
) -> dict[str, float]:
    """Totals over scored tokens from which the explained variance of a whole step follows, however it was cut up."""
    target = returns[mask].detach().double()
    error = target - values[mask].detach().double()
    sums = torch.stack([target.sum(), target.square().sum(), error.sum(), error.square().sum()]).tolist()
    names = ("value/return", "value/return_squared", "value/error", "value/error_squared")
    return dict(zip(names, sums, strict=True))


def explained_variance_of(means: Mapping[str, float]) -> float:
    """The explained variance from the means of `value_moments`, as a step logs them; 0 where returns do not vary."""
    spread = means["value/return_squared"] - means["value/return"] ** 2
    if spread <= 1e-12 * max(1.0, means["value/return_squared"]):
        return 0.0
    return 1.0 - (means["value/error_squared"] - means["value/error"] ** 2) / spread
