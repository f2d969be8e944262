"""Ranking losses: hand values, gradients in float64, ties, centring, length, and what they log."""

import math

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, Scores, make_batch
from sightline.objectives.ranking import bradley_terry, centring, correlation, ranking_objective
from tests.tiny import prompt_tokens


def batch(*, tie: tuple[float, ...] = (0, 0, 1), aspect: tuple[float, ...] = (0, 1, 0)) -> Batch:
    """Two prompts with two answers each, of 1 to 4 tokens, and three comparisons."""
    answers = [[(5,), (5, 6)], [(5, 6, 7), (5, 6, 7, 8)]]
    pairs, columns = [(0, 1), (3, 2), (2, 3)], {"margin": (1.0, 0.5, 0.0), "tie": tie, "aspect": aspect}
    return make_batch([prompt_tokens("a"), prompt_tokens("b")], answers, pairs=pairs, pair_columns=columns)


def rated(*rows: tuple[float, ...]) -> Scores:
    ratings = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    return Scores(logprobs=torch.zeros(4, 4), ratings=ratings)


RATINGS = ((1.0, 0.5), (0.0, 0.2), (0.3, 0.1), (-0.2, 0.9))


def minus_log_sigmoid(value: float) -> float:
    return math.log(1 + math.exp(-value))


def test_bradley_terry_is_log_two_where_both_are_rated_alike():
    zero = torch.zeros(1)
    assert float(bradley_terry(zero, zero)) == pytest.approx(math.log(2))
    assert float(bradley_terry(zero + 2, zero, margin=zero + 0.5)) == pytest.approx(minus_log_sigmoid(1.5))


def test_a_tie_is_least_where_both_are_rated_alike_and_has_no_side():
    tie = torch.tensor([True])
    apart = [float(bradley_terry(torch.tensor([d]), torch.zeros(1), tie=tie)) for d in (-1.0, 0.0, 1.0)]
    assert apart[0] == pytest.approx(apart[2])
    assert apart[1] == pytest.approx(math.log(2))
    assert apart[1] < apart[0]
    with_margin = bradley_terry(torch.zeros(1), torch.zeros(1), tie=tie, margin=torch.ones(1))
    assert float(with_margin) == pytest.approx(math.log(2))


def test_gradients_in_double_precision():
    one, other = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    tie = torch.tensor([True, False, False, True, False])
    torch.autograd.gradcheck(lambda a, b: bradley_terry(a, b, margin=0.3 * torch.ones_like(a), tie=tie), (one, other))
    torch.autograd.gradcheck(centring, (one, other))
    torch.autograd.gradcheck(correlation, (one, other))


def test_correlation_by_hand():
    rising = torch.tensor([1.0, 2.0, 4.0])
    assert float(correlation(rising, 3 * rising + 1)) == pytest.approx(1)
    assert float(correlation(rising, -rising)) == pytest.approx(-1)
    assert float(correlation(rising, torch.ones(3))) == 0


def test_comparisons_see_the_ratings_of_their_aspect():
    objective = ranking_objective(attributes=("faith",), margin_weight=1.0, centring_weight=0.1)
    outcome = objective.compute(rated(*RATINGS), batch())
    expected = minus_log_sigmoid(1.0 - 0.0 - 1.0) + minus_log_sigmoid(0.9 - 0.1 - 0.5)
    expected += 0.5 * (minus_log_sigmoid(0.5) + minus_log_sigmoid(-0.5))
    assert float(outcome.terms["ranking"].detach()) == pytest.approx(expected)
    assert float(outcome.terms["centring"].detach()) == pytest.approx(1.0**2 + 1.0**2 + 0.1**2)
    assert objective.counts(batch()) == {"ranking": 3, "centring": 3}
    assert objective.wants == {"ratings"}
    assert not objective.coupled


def test_metrics_count_decided_comparisons_alone():
    outcome = ranking_objective(attributes=("faith",)).compute(rated(*RATINGS), batch())
    assert outcome.metrics["rating/accuracy"] == (2, 2)
    assert outcome.metrics["rating/accuracy_overall"] == (1, 1)
    assert outcome.metrics["rating/accuracy_faith"] == (1, 1)
    assert outcome.metrics["rating/margin"] == pytest.approx((1.8, 2))
    alone = ranking_objective().compute(rated(*((a,) for a, _ in RATINGS)), batch(aspect=(0, 0, 0)))
    assert set(alone.metrics) == {"rating/accuracy", "rating/margin"}


def test_the_length_head_takes_length_and_leaves_it_out_of_the_overall_rating():
    objective = ranking_objective(length_weight=1.0, centring_weight=0.0)
    assert objective.coupled
    lengths = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def length_term(quality: Tensor, length: Tensor) -> float:
        scores = Scores(logprobs=torch.zeros(4, 4), ratings=torch.stack([quality, length], 1))
        return float(objective.compute(scores, batch(aspect=(0, 0, 0))).terms["length"])

    uneven = torch.tensor([1.0, -1.0, -1.0, 1.0])  # has nothing to do with length
    assert length_term(uneven, lengths) == pytest.approx(0, abs=1e-6)
    assert length_term(lengths, lengths) == pytest.approx(1)
    assert length_term(lengths, -lengths) == pytest.approx(3)
    summed = objective.compute(rated((0.0, 2.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), batch(aspect=(0, 0, 0)))
    expected = minus_log_sigmoid(2.0) + math.log(2) + math.log(2)
    assert float(summed.terms["ranking"].detach()) == pytest.approx(expected)


def test_a_batch_without_comparisons_gives_totals_of_zero():
    empty = make_batch([prompt_tokens("a")], [[(5,)]], pair_columns={"margin": (), "tie": (), "aspect": ()})
    scores = Scores(logprobs=torch.zeros(1, 1), ratings=torch.zeros(1, 1, requires_grad=True))
    outcome = ranking_objective().compute(scores, empty)
    assert float(outcome.terms["ranking"].detach()) == 0
    assert outcome.metrics["rating/accuracy"] == (0, 0)
