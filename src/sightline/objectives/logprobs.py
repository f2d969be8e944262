"""From log-probabilities of tokens to those of answers."""

from jaxtyping import Bool, Float
from torch import Tensor


def answer_totals(
    logprobs: Float[Tensor, "answer token"], mask: Bool[Tensor, "answer token"]
) -> Float[Tensor, " answer"]:
    """Log-probability of each answer: the sum over its scored tokens."""
    return (logprobs * mask).sum(-1)


def answer_means(
    logprobs: Float[Tensor, "answer token"], mask: Bool[Tensor, "answer token"]
) -> Float[Tensor, " answer"]:
    """Mean log-probability per scored token of each answer."""
    return (logprobs * mask).sum(-1) / mask.sum(-1).clamp(min=1)
