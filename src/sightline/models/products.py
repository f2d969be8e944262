"""Matrix products whose results are float32, whatever the run computes in: the head's logits, a decoder's scores.

A logit of 20 rounded to bfloat16 is off by up to 0.06, whatever was added up on the way; a sampler and a trainer that
add in another order then disagree about tokens for nothing but that. On CUDA the factors stay as the run has them and
the sum is kept as it is had there anyway, in float32; elsewhere the factors are widened first. Gradients come in
the run's own arithmetic.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def logits_in_float32(head: nn.Module, states: Tensor) -> Tensor:
    """The head's logits [rows, vocabulary] of hidden states [rows, width].

    A head that is more than one linear layer (an adapter sits on it) computes as the run does, and its result is
    widened.
    """
    narrow = _narrow(states)
    if narrow == torch.float32 or type(head) is not nn.Linear:
        return head(states).float()
    logits = _Logits.apply(states, head.weight, narrow)
    return logits if head.bias is None else logits + head.bias.float()


def scores_in_float32(query: Tensor, key: Tensor) -> Tensor:
    """Products [batch, queries, keys] of [batch, queries, width] and [batch, keys, width]; has no gradient."""
    return _product(query, key.transpose(1, 2), _narrow(query))


class _Logits(torch.autograd.Function):
    """Of states [rows, width] and a head's weight [vocabulary, width] the logits [rows, vocabulary]."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, narrow: torch.dtype) -> Tensor:
        """`narrow` is the run's arithmetic."""
        ctx.save_for_backward(states, weight)
        ctx.narrow = narrow
        return _product(states, weight.t(), narrow)

    # what is ignored: the decorator's type lets `ctx` be given by position alone, the base's also by name
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The two products of any linear layer."""
        states, weight = ctx.saved_tensors
        gradient = grad_outputs[0].to(ctx.narrow)
        of_states, of_weight = ctx.needs_input_grad[:2]
        return (
            (gradient @ weight.to(ctx.narrow)).to(states.dtype) if of_states else None,
            (gradient.t() @ states.to(ctx.narrow)).to(weight.dtype) if of_weight else None,
            None,
        )


def _narrow(given: Tensor) -> torch.dtype:
    """What the run's products are computed in: that of autocast, or the tensor's own."""
    device = given.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else given.dtype


def _product(left: Tensor, right: Tensor, narrow: torch.dtype) -> Tensor:
    multiply = torch.mm if left.dim() == 2 else torch.bmm
    if narrow == torch.float32:
        return multiply(left, right)
    if left.device.type == "cuda":
        return multiply(left.to(narrow), right.to(narrow), out_dtype=torch.float32)  # type: ignore[call-overload]
    with torch.autocast(left.device.type, enabled=False):
        return multiply(left.float(), right.float())
