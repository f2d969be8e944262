"""How far a policy is from a reference, from single tokens: three estimators, what each one's gradient is, and control.

With x drawn from the policy pi and q = log pi(x) - log ref(x), each of k1, k2 and k3 (Schulman 2020, "Approximating KL
divergence") estimates KL(pi, ref), the mean of q over pi; k1 and k3 without bias. *Their gradients are other things.*
Autograd takes the drawn token as given, so a term in the loss follows, in expectation over pi:

- k1 = q: zero, that is, noise and nothing else. Its place is the reward, where the policy gradient makes it right.
- k2 = q^2 / 2: the gradient of KL(pi, ref), the right one.
- k3 = exp(-q) - 1 + q: the gradient of KL(ref, pi), the other direction. GRPO has it in the loss.
- k3+ = the number of k3 with the gradient of k2.

All this holds for tokens of the policy as it stands; after some updates on one rollout it holds roughly.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.registry import did_you_mean

LIMIT = 20.0
CEILING = 10.0
Estimator = Callable[[Tensor, Tensor], Tensor]


def k1(
    logprobs: Float[Tensor, "*shape"], reference: Float[Tensor, "*shape"], *, limit: float = LIMIT
) -> Float[Tensor, "*shape"]:
    """The log-ratio q itself: unbiased, often negative. Right in the reward; in a loss its expected gradient is zero.

    Held within `limit`, as in the other estimators, so that one absurd token cannot drown a step.
    """
    return (logprobs - reference).clamp(-limit, limit)


def k2(
    logprobs: Float[Tensor, "*shape"], reference: Float[Tensor, "*shape"], *, limit: float = LIMIT
) -> Float[Tensor, "*shape"]:
    """q^2 / 2: biased as a number, but its expected gradient in a loss is that of KL(policy, reference)."""
    return 0.5 * k1(logprobs, reference, limit=limit).square()


def k3(
    logprobs: Float[Tensor, "*shape"],
    reference: Float[Tensor, "*shape"],
    *,
    limit: float = LIMIT,
    ceiling: float = CEILING,
) -> Float[Tensor, "*shape"]:
    """exp(-q) - 1 + q: unbiased, never negative, of low variance; its gradient is that of KL(reference, policy).

    Held below `ceiling`, beyond which a token has no gradient.
    """
    ratio = k1(logprobs, reference, limit=limit)
    return (torch.expm1(-ratio) + ratio).clamp(max=ceiling)


def k3_with_k2_gradient(
    logprobs: Float[Tensor, "*shape"],
    reference: Float[Tensor, "*shape"],
    *,
    limit: float = LIMIT,
    ceiling: float = CEILING,
) -> Float[Tensor, "*shape"]:
    """The number of k3 with the gradient of k2 (straight-through): both the good estimate and the right direction."""
    slope = k2(logprobs, reference, limit=limit)
    # The correction is a constant: gradients come from k2 alone.
    return slope + (k3(logprobs, reference, limit=limit, ceiling=ceiling) - slope).detach()


ESTIMATORS: dict[str, Estimator] = {"k1": k1, "k2": k2, "k3": k3, "k3+": k3_with_k2_gradient}


def find_estimator(name: str) -> Estimator:
    """The estimator called "k1", "k2", "k3" or "k3+" (k3 with the gradient of k2)."""
    if name not in ESTIMATORS:
        raise ValueError(f"KL estimator {name!r} is unknown{did_you_mean(name, ESTIMATORS)}")
    return ESTIMATORS[name]


def exact_kl(
    logits: Float[Tensor, "*shape vocabulary"], reference: Float[Tensor, "*shape vocabulary"]
) -> Float[Tensor, "*shape"]:
    """KL(policy, reference) of whole distributions, from logits; a word that the policy cannot say adds nothing."""
    logprobs, others = logits.log_softmax(-1), reference.log_softmax(-1)
    impossible = logprobs == -torch.inf
    difference = logprobs.masked_fill(impossible, 0.0) - others.masked_fill(impossible, 0.0)
    return (logprobs.exp() * difference).sum(-1)


def adapted_kl_weight(
    weight: float, measured: float, *, num_answers: int, target: float = 0.1, horizon: float = 10_000.0
) -> float:
    """The KL weight for the next step (Ziegler et al. 2019): larger while `measured` is above `target`.

    Multiplies by 1 + e * num_answers / horizon with e = measured / target - 1 held within 0.2. The weight is the
    whole state, and the caller keeps it.
    """
    error = min(0.2, max(-0.2, measured / target - 1))
    return weight * (1 + error * num_answers / horizon)
