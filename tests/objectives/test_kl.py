"""The estimators' values by hand, and what each one's gradient really is, by enumeration of a small distribution."""

import math

import pytest
import torch

from sightline.objectives.kl import (
    ESTIMATORS,
    adapted_kl_weight,
    exact_kl,
    find_estimator,
    k1,
    k2,
    k3,
    k3_with_k2_gradient,
)

LOGITS = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
REFERENCE = torch.tensor([-0.2, 0.5, 0.4, -0.9], dtype=torch.float64)


def expected(name: str) -> tuple[float, torch.Tensor]:
    """Mean of an estimator over words drawn from the policy, and the mean of its gradient by the logits."""
    logits = LOGITS.clone().requires_grad_()
    logprobs = logits.log_softmax(-1)
    estimates = ESTIMATORS[name](logprobs, REFERENCE.log_softmax(-1))
    mean = (logprobs.detach().exp() * estimates).sum()  # drawn words are given: no gradient through the draw
    return float(mean.detach()), torch.autograd.grad(mean, logits)[0]


def reverse() -> tuple[float, torch.Tensor]:
    """KL(policy, reference) and its gradient."""
    logits = LOGITS.clone().requires_grad_()
    value = exact_kl(logits, REFERENCE)
    return float(value.detach()), torch.autograd.grad(value, logits)[0]


def forward() -> torch.Tensor:
    """Gradient of KL(reference, policy)."""
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(exact_kl(REFERENCE, logits), logits)[0]


def test_estimates_by_hand():
    policy, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])
    # Log-ratios 0.5 and -1.
    assert k1(policy, reference).tolist() == [0.5, -1]
    assert k2(policy, reference).tolist() == [0.125, 0.5]
    wanted = [math.exp(-0.5) - 1 + 0.5, math.e - 2]
    assert k3(policy, reference).tolist() == pytest.approx(wanted, rel=1e-6)
    assert k3_with_k2_gradient(policy, reference).tolist() == pytest.approx(wanted, rel=1e-6)


def test_k1_and_k3_are_unbiased_and_k2_is_not():
    value, _ = reverse()
    assert expected("k1")[0] == pytest.approx(value, rel=1e-12)
    assert expected("k3")[0] == pytest.approx(value, rel=1e-12)
    assert expected("k3+")[0] == pytest.approx(value, rel=1e-12)
    assert abs(expected("k2")[0] - value) > 0.01


def test_the_gradient_of_k1_is_zero_on_average():
    assert expected("k1")[1].tolist() == pytest.approx([0] * 4, abs=1e-15)


@pytest.mark.parametrize("name", ["k2", "k3+"])
def test_the_gradient_of_k2_is_that_of_the_reverse_kl(name: str):
    torch.testing.assert_close(expected(name)[1], reverse()[1], rtol=1e-12, atol=1e-15)


def test_the_gradient_of_k3_is_that_of_the_forward_kl():
    torch.testing.assert_close(expected("k3")[1], forward(), rtol=1e-12, atol=1e-15)
    assert float((expected("k3")[1] - reverse()[1]).abs().max()) > 0.05


def test_k1_in_the_reward_gives_the_gradient_of_the_reverse_kl():
    logits = LOGITS.clone().requires_grad_()
    logprobs = logits.log_softmax(-1)
    reward = -k1(logprobs, REFERENCE.log_softmax(-1)).detach()
    loss = -(logprobs.detach().exp() * reward * logprobs).sum()
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], reverse()[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_equal_policies_are_at_zero_without_a_pull_on_average(name: str):
    logits = LOGITS.clone().requires_grad_()
    logprobs = logits.log_softmax(-1)
    estimates = ESTIMATORS[name](logprobs, logprobs.detach())
    assert estimates.tolist() == [0] * 4
    (gradient,) = torch.autograd.grad((logprobs.detach().exp() * estimates).sum(), logits)
    assert gradient.tolist() == pytest.approx([0] * 4, abs=1e-15)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_absurd_tokens_are_held(name: str):
    policy = torch.tensor([0.0, -1e4], requires_grad=True)
    found = ESTIMATORS[name](policy, torch.tensor([-1e4, 0.0]))
    assert bool(found.isfinite().all())
    assert bool((found.abs() <= 200).all())
    (gradient,) = torch.autograd.grad(found.sum(), policy)
    assert bool(gradient.isfinite().all())
    assert k3(torch.tensor([-5.0]), torch.tensor([0.0])).tolist() == [10]


def test_k3_is_not_lost_to_rounding_near_zero():
    found = k3(torch.tensor([1e-4, -1e-4]), torch.zeros(2))
    assert found.tolist() == pytest.approx([5e-9, 5e-9], rel=1e-2)


def test_an_unknown_estimator_is_refused_by_name():
    assert find_estimator("k3+") is k3_with_k2_gradient
    with pytest.raises(ValueError, match="'k4' is unknown"):
        find_estimator("k4")


def test_the_exact_kl_by_hand_and_with_banned_words():
    policy = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log().requires_grad_()
    other = torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64).log()
    found = exact_kl(policy, other)
    assert float(found.detach()) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    (gradient,) = torch.autograd.grad(found, policy)
    assert bool(gradient.isfinite().all())
    assert float(exact_kl(other, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).log())) == math.inf


def test_the_kl_weight_follows_what_was_measured():
    assert adapted_kl_weight(0.1, 0.1, num_answers=64) == 0.1
    assert adapted_kl_weight(0.1, 0.11, num_answers=1000) == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    assert adapted_kl_weight(0.1, 5.0, num_answers=1000) == pytest.approx(0.1 * (1 + 0.2 * 0.1))
    assert adapted_kl_weight(0.1, 0.0, num_answers=500, target=0.3, horizon=1000.0) == pytest.approx(0.1 * 0.9)
