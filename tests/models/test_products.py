"""Logits and scores in float32 where a run computes in bfloat16."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from sightline.models.products import logits_in_float32, scores_in_float32

AUTOCAST = pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "frozen in bfloat16"])


def made(*, autocast: bool, bias: bool = False) -> tuple[nn.Linear, Tensor]:
    """A head with logits around 20 and states: float32 beside autocast, else both in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    head, states = nn.Linear(64, 300, bias=bias), torch.randn(40, 64, generator=generator)
    with torch.no_grad():
        head.weight.copy_(torch.randn(300, 64, generator=generator) * 2.5)
    if not autocast:
        return head.to(torch.bfloat16), states.to(torch.bfloat16)
    return head, states


def arithmetic(autocast: bool) -> torch.autocast | nullcontext[None]:
    return torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()


@AUTOCAST
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_logits_are_those_of_exact_sums(autocast: bool, bias: bool):
    head, states = made(autocast=autocast, bias=bias)
    exact = nn.functional.linear(
        states.double(), head.weight.double(), None if head.bias is None else head.bias.double()
    )
    with arithmetic(autocast):
        rounded, found = head(states), logits_in_float32(head, states)
    assert found.dtype == torch.float32
    assert float((rounded.double() - exact).abs().max()) > 1e-2
    assert float((found.double() - exact).abs().max()) < 1e-4


@AUTOCAST
def test_their_gradients_are_those_of_the_rounded_layer(autocast: bool):
    head, states = made(autocast=autocast)
    states.requires_grad_()
    weights = torch.randn(40, 300, generator=torch.Generator().manual_seed(1))
    found = []
    for narrow in (False, True):
        with arithmetic(autocast):
            logits = head(states).float() if narrow else logits_in_float32(head, states)
        found.append(torch.autograd.grad((logits * weights).sum(), (states, head.weight)))
    for mine, other in zip(*found, strict=True):
        assert mine.dtype == other.dtype
        assert float((mine - other).norm() / other.norm()) < 5e-3


def test_in_float32_nothing_changes():
    head, states = made(autocast=True)
    assert torch.equal(logits_in_float32(head, states), head(states))


def test_a_head_under_an_adapter_computes_as_the_run_does():
    head, states = made(autocast=True)
    wrapped = nn.Sequential(head)
    with arithmetic(True):
        assert torch.equal(logits_in_float32(wrapped, states), head(states).float())


@AUTOCAST
def test_scores_are_those_of_exact_sums(autocast: bool):
    generator = torch.Generator().manual_seed(0)
    query, key = (8 * torch.randn(3, n, 16, generator=generator) for n in (5, 7))
    if not autocast:
        query, key = query.to(torch.bfloat16), key.to(torch.bfloat16)
    with arithmetic(autocast):
        found = scores_in_float32(query, key)
    assert float((found.double() - query.double() @ key.double().transpose(1, 2)).abs().max()) < 1e-3
