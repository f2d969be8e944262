"""A loss that couples a whole step: any cut gives the gradient of the loss taken directly on everything."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, Outcome, Scores
from sightline.models.load import Loaded
from sightline.objectives.objective import Objective
from tests.tiny import gradients, largest_difference, taken_gradients, tiny_trained
from tests.train.engines import preference_batch, tiny_engine

pytestmark = pytest.mark.exactness


def product_objective() -> Objective:
    """The square of the sum of all log-probs over its count, and their entropy: nothing of it is a sum over parts."""

    def counts(batch: Batch) -> Mapping[str, float]:
        return {"square": 1.0, "plain": float(batch.mask.sum())}

    def compute(scores: Scores, batch: Batch) -> Outcome:
        assert scores.entropy is not None
        total = (scores.logprobs * batch.mask).sum()
        return Outcome(
            terms={"square": total.square() / 1000, "plain": (scores.entropy * batch.mask).sum()},
            metrics={"policy/tokens": (float(total.detach()), float(batch.mask.sum()))},
        )

    weights = {"square": 1.0, "plain": 0.3}
    wants = frozenset({"logprobs", "entropy"})
    return Objective(name="product", counts=counts, compute=compute, weights=weights, wants=wants, coupled=True)


def directly(loaded: Loaded, batch: Batch) -> tuple[dict[str, Tensor], float]:
    """Gradient and loss by autograd through one forward of everything."""
    engine = tiny_engine(loaded, objective=product_objective(), token_budget=10**6)
    objective = engine.objective
    scores = engine.policy.score(batch, want=objective.wants)
    outcome, counts = objective.compute(scores, batch), objective.counts(batch)
    loss = torch.stack([objective.weights[k] * t / counts[k] for k, t in outcome.terms.items()]).sum()
    return gradients(loaded.trained(), loss), float(loss.detach())


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("train", ["full", "lora"])
def test_any_cut_gives_the_gradient_of_the_whole(train: str, whole: bool):
    wanted, loss = directly(tiny_trained(train, train_tower=whole, train_projector=whole), preference_batch())
    for budget in (1, 40, 10**6):
        loaded = tiny_trained(train, train_tower=whole, train_projector=whole)
        engine = tiny_engine(loaded, objective=product_objective(), token_budget=budget)
        engine.accumulate(preference_batch())
        assert largest_difference(taken_gradients(loaded.trained()), wanted) < 1e-5
        engine.optimiser.zero_grad(set_to_none=True)
        assert engine.measure([preference_batch()])["loss/total"] == pytest.approx(loss, rel=1e-5)
        assert engine.update(preference_batch())["loss/total"] == pytest.approx(loss, rel=1e-5)
