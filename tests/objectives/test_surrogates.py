import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from sightline.objectives.surrogates import (
    aggregation_weights,
    cispo,
    clipped_surrogate,
    dual_clipped_surrogate,
    plain_reinforce,
    sequence_ratio,
    sequence_token_ratio,
    token_ratio,
    top_entropy_tokens,
    two_sided_surrogate,
)

MASK = torch.tensor([[True, True, False], [True, False, False]])
RULES = {"ppo": clipped_surrogate, "dual": dual_clipped_surrogate, "two_sided": two_sided_surrogate}


def rows(*numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def loss_and_slope(rule: str, ratio: float, advantage: float) -> tuple[float, float]:
    """Loss of one token and its derivative by the ratio, clipped at 0.8, 1.28 and, for bad tokens, 3 or 4."""
    at = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    loss = RULES[rule](at, torch.tensor([advantage], dtype=torch.float64), low=0.2, high=0.28)
    (slope,) = torch.autograd.grad(loss.sum(), at)
    return float(loss.detach()), float(slope)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.2, 2.0, -2.4, -2.0),
        (1.5, 2.0, -2.56, 0.0),  # good and already likelier
        (9.0, 2.0, -2.56, 0.0),
        (0.5, 2.0, -1.0, -2.0),  # good and become unlikely: pulled back
        (1.0, -2.0, 2.0, 2.0),
        (0.9, -2.0, 1.8, 2.0),
        (0.5, -2.0, 1.6, 0.0),  # bad and already unlikely
        (2.0, -2.0, 4.0, 2.0),  # bad and become likelier: pushed back
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_within_their_ceilings_the_clip_rules_agree(
    rule: str, ratio: float, advantage: float, loss: float, slope: float
):
    assert loss_and_slope(rule, ratio, advantage) == pytest.approx((loss, slope))


def test_far_above_only_the_ceiling_of_bad_tokens_differs():
    assert loss_and_slope("ppo", 9.0, -2.0) == pytest.approx((18, 2))
    assert loss_and_slope("dual", 9.0, -2.0) == pytest.approx((6, 0))
    assert loss_and_slope("two_sided", 9.0, -2.0) == pytest.approx((8, 0))


@settings(max_examples=100, deadline=None)
@given(
    ratio=st.floats(0, 50),
    advantage=st.floats(-5, 5),
    low=st.floats(0, 1),
    high=st.floats(0, 2),
    above=st.floats(1e-3, 5),
)
def test_dual_and_two_sided_clip_are_one_rule(ratio: float, advantage: float, low: float, high: float, above: float):
    at, by, ceiling = rows([ratio])[0], rows([advantage])[0], 1 + high + above
    dual = dual_clipped_surrogate(at, by, low=low, high=high, ceiling=ceiling)
    two_sided = two_sided_surrogate(at, by, low=low, high=high, delta=ceiling)
    torch.testing.assert_close(dual, two_sided)


@pytest.mark.parametrize("rule", RULES)
def test_clip_rules_check_their_gradient_in_float64(rule: str):
    ratio = (torch.rand(30, dtype=torch.float64) * 6).requires_grad_()
    advantage = torch.randn(30, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda r: RULES[rule](r, advantage), (ratio,))


def test_cispo_by_hand():
    logprobs = torch.tensor([-0.5, -0.5, -0.5], dtype=torch.float64, requires_grad=True)
    ratio = torch.tensor([10.0, 2.0, 10.0], dtype=torch.float64, requires_grad=True)
    loss = cispo(logprobs, ratio, torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64), high=4.0)
    assert loss.tolist() == [-2.5, 1.0, 2.5]
    slope, by_ratio = torch.autograd.grad(loss.sum(), (logprobs, ratio), allow_unused=True)
    assert slope.tolist() == [5, -2, -5]
    assert by_ratio is None


def test_plain_reinforce_by_hand():
    assert plain_reinforce(torch.tensor([-0.5, -2.0]), torch.tensor([2.0, -1.0])).tolist() == [1, -2]


def test_ratios_by_hand():
    logprobs = rows([-1.0, -2.0, 7.0], [-3.0, 7.0, 7.0])
    behaviour = rows([-1.1, -2.3, 0.0], [-2.5, 0.0, 0.0])
    token = rows([0.1, 0.3, 0.0], [-0.5, 0.0, 0.0]).exp()
    torch.testing.assert_close(token_ratio(logprobs, behaviour, MASK), token)
    answer = torch.tensor([math.exp(0.2), math.exp(-0.5)], dtype=torch.float64)
    for found in (sequence_ratio, sequence_token_ratio):
        torch.testing.assert_close(found(logprobs, behaviour, MASK)[MASK], answer[torch.tensor([0, 0, 1])])


def test_gradients_of_ratios_by_hand():
    logprobs = rows([-1.0, -2.0, 7.0], [-3.0, 7.0, 7.0]).requires_grad_()
    behaviour = rows([-1.1, -2.3, 0.0], [-2.5, 0.0, 0.0])
    weight = rows([1, 3, 0], [1, 0, 0])

    def gradient(ratio) -> list[list[float]]:
        return torch.autograd.grad((weight * ratio(logprobs, behaviour, MASK)).sum(), logprobs)[0].tolist()

    first, second = math.exp(0.2), math.exp(-0.5)
    assert gradient(token_ratio) == [
        pytest.approx([math.exp(0.1), 3 * math.exp(0.3), 0]),
        pytest.approx([second, 0, 0]),
    ]
    # (1 + 3) / 2 tokens each, against each token's own weight.
    assert gradient(sequence_ratio) == [pytest.approx([2 * first, 2 * first, 0]), pytest.approx([second, 0, 0])]
    assert gradient(sequence_token_ratio) == [pytest.approx([first, 3 * first, 0]), pytest.approx([second, 0, 0])]


@pytest.mark.parametrize("ratio", [token_ratio, sequence_ratio, sequence_token_ratio])
def test_absurd_ratios_stay_finite(ratio):
    found = ratio(rows([0.0, -1e5, 0.0]), rows([-1e5, 0.0, 0.0]), torch.tensor([[True, True, False]]))
    assert bool(found.isfinite().all())
    assert float(found.max()) <= math.exp(20) * 1.001


def test_aggregations_by_hand():
    weight = torch.ones(2)
    weights, count = aggregation_weights(MASK, weight, aggregation="sequence")
    assert (weights.tolist(), count) == ([[0.5, 0.5, 0], [1, 0, 0]], 2)
    weights, count = aggregation_weights(MASK, weight, aggregation="token")
    assert (weights.tolist(), count) == ([[1, 1, 0], [1, 0, 0]], 3)
    weights, count = aggregation_weights(MASK, weight, aggregation="constant", max_length=8)
    assert (weights.tolist(), count) == ([[1, 1, 0], [1, 0, 0]], 16)


@pytest.mark.parametrize(("aggregation", "count"), [("sequence", 0.5), ("token", 1), ("constant", 4)])
def test_an_answer_weighs_in_total_and_count_alike(aggregation: str, count: float):
    weights, found = aggregation_weights(MASK, torch.tensor([0.5, 0.0]), aggregation=aggregation, max_length=8)
    assert found == count
    assert weights[1].tolist() == [0, 0, 0]
    assert float(weights[0, 0]) == (0.25 if aggregation == "sequence" else 0.5)


def test_an_answer_without_scored_tokens_is_not_counted():
    mask = torch.tensor([[True, True], [False, False]])
    assert [aggregation_weights(mask, torch.ones(2), aggregation=a)[1] for a in ("sequence", "token")] == [1, 2]


def test_the_most_uncertain_tokens_of_each_answer():
    entropy = rows([0.1, 3.0, 2.0, 0.5, 1.0], [0.2, 0.1, 9.0, 9.0, 9.0], [1.0, 1.0, 1.0, 9.0, 9.0])
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [True, True, True, False, False]])
    found = top_entropy_tokens(entropy, mask, share=0.4)
    assert found.int().tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]
    assert top_entropy_tokens(entropy, mask, share=1.0).tolist() == mask.tolist()
    fifteen = torch.arange(15, dtype=torch.float64)[None]
    assert int(top_entropy_tokens(fifteen, torch.ones(1, 15, dtype=torch.bool), share=0.2).sum()) == 3


def test_wrong_shapes_are_refused_where_they_enter():
    with pytest.raises(TypeCheckError):
        clipped_surrogate(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(TypeCheckError):
        token_ratio(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3))
