"""What holds for every objective: padding, order and micro-batches change nothing, and its gradient is right."""

from collections.abc import Callable

import pytest
import torch

from sightline.batch import Scores
from sightline.objectives.imitation import sft_objective
from sightline.objectives.objective import Objective
from sightline.objectives.preference import dpo_objective
from sightline.registry import catalogue, find
from tests.objectives.answers import in_parts, padded, reordered, result, scored_batch

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "sft": sft_objective,
    "sft by answer": lambda: sft_objective(normalise="answer"),
    "dpo": dpo_objective,
    "dpo smoothed": lambda: dpo_objective(beta=0.5, label_smoothing=0.2),
    "dpo anchored": lambda: dpo_objective(nll_weight=0.3),
    "dpo by token": lambda: dpo_objective(beta=2.0, length_normalise=True, nll_weight=0.1),
}


@pytest.fixture(params=OBJECTIVES)
def objective(request: pytest.FixtureRequest) -> Objective:
    return OBJECTIVES[request.param]()


def test_its_gradient_is_right_in_float64(objective: Objective):
    batch, logprobs = scored_batch()

    def loss(values: torch.Tensor) -> torch.Tensor:
        outcome = objective.compute(Scores(logprobs=values), batch)
        return torch.stack([objective.weights[name] * total for name, total in outcome.terms.items()]).sum()

    assert torch.autograd.gradcheck(loss, (logprobs,))


def test_padding_changes_nothing_and_gets_no_gradient(objective: Objective):
    batch, logprobs = scored_batch()
    wanted, gradient = result(objective, batch, logprobs)
    found, longer = result(objective, *padded(batch, logprobs))
    assert found == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(longer[:, : gradient.shape[1]], gradient, rtol=1e-12, atol=0)
    assert bool((longer[:, gradient.shape[1] :] == 0).all())


def test_the_order_of_groups_changes_nothing(objective: Objective):
    batch, logprobs = scored_batch()
    wanted, gradient = result(objective, batch, logprobs)
    other, moved, rows = reordered(batch, logprobs, [2, 0, 1])
    found, theirs = result(objective, other, moved)
    assert found == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(theirs, gradient[rows], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("parts", [[[0], [1], [2]], [[0, 1], [2]], [[2], [1, 0]]])
def test_micro_batches_change_nothing(objective: Objective, parts: list[list[int]]):
    batch, logprobs = scored_batch()
    _, wanted = result(objective, batch, logprobs)
    torch.testing.assert_close(in_parts(objective, batch, logprobs, parts), wanted, rtol=1e-12, atol=1e-15)


def test_counts_and_metrics_of_parts_add_up(objective: Objective):
    batch, logprobs = scored_batch()
    parts = [reordered(batch, logprobs, [i])[:2] for i in range(3)]
    whole = objective.counts(batch)
    for name in whole:
        assert sum(objective.counts(part)[name] for part, _ in parts) == whole[name]
    wanted = objective.compute(Scores(logprobs=logprobs), batch).metrics
    found = [objective.compute(Scores(logprobs=scores), part).metrics for part, scores in parts]
    for name, (total, count) in wanted.items():
        assert sum(metrics[name][0] for metrics in found) == pytest.approx(total, rel=1e-12, abs=1e-12)
        assert sum(metrics[name][1] for metrics in found) == count


def test_its_terms_are_those_that_it_counts_and_weighs(objective: Objective):
    batch, logprobs = scored_batch()
    outcome = objective.compute(Scores(logprobs=logprobs), batch)
    assert set(outcome.terms) == set(objective.counts(batch)) == set(objective.weights)
    assert all(total.dim() == 0 and total.requires_grad for total in outcome.terms.values())
    assert all(isinstance(number, float) for pair in outcome.metrics.values() for number in pair)


def test_a_batch_without_answers_gives_totals_of_zero(objective: Objective):
    batch, logprobs = scored_batch()
    nothing = batch.select([])
    outcome = objective.compute(Scores(logprobs=logprobs[:0, :0]), nothing)
    assert all(float(total.detach()) == 0 for total in outcome.terms.values())
    assert all(count == 0 for count in objective.counts(nothing).values())


def test_every_objective_of_the_catalogue_is_found_by_its_name():
    assert [find("objective", name)().name for name in catalogue()["objective"]] == catalogue()["objective"]
