import math

import pytest
import torch
from jaxtyping import TypeCheckError

from sightline.batch import Batch, make_batch
from sightline.objectives.preference import dpo, dpo_objective
from tests.objectives.answers import result
from tests.tiny import prompt_tokens


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def small_batch() -> tuple[Batch, torch.Tensor]:
    """One pair by hand: two chosen tokens and one rejected one."""
    batch = make_batch([prompt_tokens("a")], [[(5, 6), (7,)]], pairs=[(0, 1)])
    batch = batch.with_columns(ref_logprobs=torch.tensor([[-1.0, -1.5], [-2.0, 0.0]], dtype=torch.float64))
    return batch, torch.tensor([[-0.5, -1.0], [-3.0, 0.0]], dtype=torch.float64, requires_grad=True)


def test_dpo_by_hand():
    # margin = 0.5 * ((-1 + 2) - (-3 + 2.5)) = 0.75
    loss = dpo(values(-1), values(-3), values(-2), values(-2.5), beta=0.5)
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-0.75))])


def test_dpo_is_log_two_when_policy_equals_reference():
    same = values(-1, -20, -3)
    other = values(-7, -2, -0.1)
    for smoothing in (0.0, 0.3):
        loss = dpo(same, other, same, other, beta=3.0, label_smoothing=smoothing)
        assert loss.tolist() == pytest.approx([math.log(2)] * 3)


def test_label_smoothing_mixes_both_directions():
    arguments = (values(-1), values(-3), values(-2), values(-2.5))
    forward, backward = math.log(1 + math.exp(-0.75)), math.log(1 + math.exp(0.75))
    loss = dpo(*arguments, beta=0.5, label_smoothing=0.1)
    assert loss.tolist() == pytest.approx([0.9 * forward + 0.1 * backward])


def test_label_smoothing_is_least_at_its_own_margin():
    best = math.log(0.9 / 0.1)
    margins = torch.linspace(best - 1, best + 1, 201, dtype=torch.float64)
    nothing = torch.zeros_like(margins)
    losses = dpo(margins, nothing, nothing, nothing, beta=1.0, label_smoothing=0.1)
    assert float(margins[losses.argmin()]) == pytest.approx(best, abs=0.011)


def test_dpo_stays_finite_far_from_the_reference():
    loss = dpo(values(-1e4), values(0), values(0), values(-1e4), beta=1.0)
    assert loss.tolist() == pytest.approx([2e4])


def test_dpo_checks_its_gradient_in_float64():
    arguments = tuple(torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(4))
    assert torch.autograd.gradcheck(lambda *a: dpo(*a, beta=0.3, label_smoothing=0.1), arguments)


def test_wrong_shapes_are_refused_where_they_enter():
    with pytest.raises(TypeCheckError):
        dpo(values(1, 2), values(1), values(1), values(1))
    with pytest.raises(TypeCheckError):
        dpo(values(1)[None], values(1)[None], values(1)[None], values(1)[None])


def test_the_objective_by_hand():
    batch, logprobs = small_batch()
    # chosen -1.5 against -2.5, rejected -3 against -2: margin 0.1 * (1 + 1)
    found, gradient = result(dpo_objective(beta=0.1), batch, logprobs)
    assert found["dpo"] == pytest.approx(math.log(1 + math.exp(-0.2)))
    assert found["reward/chosen"] == pytest.approx(0.1)
    assert found["reward/rejected"] == pytest.approx(-0.1)
    assert found["reward/margin"] == pytest.approx(0.2)
    assert found["reward/accuracy"] == 1
    assert found["policy/chosen_logprob"] == pytest.approx(-1.5)
    slope = 0.1 / (1 + math.exp(0.2))
    torch.testing.assert_close(gradient, torch.tensor([[-slope, -slope], [slope, 0]], dtype=torch.float64))


def test_the_anchor_is_the_mean_over_the_chosen_tokens():
    batch, logprobs = small_batch()
    objective = dpo_objective(nll_weight=0.5)
    assert objective.counts(batch) == {"dpo": 1.0, "nll": 2.0}
    assert objective.weights == {"dpo": 1.0, "nll": 0.5}
    found, gradient = result(objective, batch, logprobs)
    assert found["nll"] == pytest.approx(0.75)
    _, without = result(dpo_objective(), batch, logprobs)
    torch.testing.assert_close(gradient - without, torch.tensor([[-0.25, -0.25], [0, 0]], dtype=torch.float64))


def test_length_normalised_log_ratios_are_means_per_token():
    batch, logprobs = small_batch()
    # chosen 1 over two tokens, rejected -1 over one
    found, _ = result(dpo_objective(beta=1.0, length_normalise=True), batch, logprobs)
    assert found["dpo"] == pytest.approx(math.log(1 + math.exp(-1.5)))


def test_a_tie_in_the_log_ratios_is_no_right_answer():
    batch, logprobs = small_batch()
    batch = batch.with_columns(ref_logprobs=logprobs.detach())
    found, _ = result(dpo_objective(), batch, logprobs)
    assert found["reward/accuracy"] == 0
    assert found["dpo"] == pytest.approx(math.log(2))
