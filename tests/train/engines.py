"""An engine over the tiny model, for tests of updates."""

from collections.abc import Callable

import torch
from torch import Tensor

from sightline.batch import Batch
from sightline.models.load import Loaded
from sightline.objectives.objective import Objective
from sightline.objectives.preference import dpo_objective
from sightline.train.engine import Engine
from sightline.train.optim import make_optimiser
from tests.tiny import ragged_batch, tiny_policy, with_random_reference


def tiny_engine(
    loaded: Loaded,
    *,
    objective: Objective | None = None,
    token_budget: int = 10_000,
    learning_rate: float = 1e-3,
    max_grad_norm: float = 0.0,
    quarantine: Callable[[Batch, int, str], str] = lambda batch, step, why: "nowhere",
) -> Engine:
    """An engine with AdamW and a constant learning rate; DPO with an anchor unless another objective is given."""
    return Engine(
        policy=tiny_policy(loaded),
        objective=objective or dpo_objective(beta=0.5, nll_weight=0.2),
        optimiser=make_optimiser(loaded.trained().values(), learning_rate=learning_rate),
        schedule=lambda step: learning_rate,
        token_budget=token_budget,
        max_grad_norm=max_grad_norm,
        quarantine=quarantine,
    )


def preference_batch(*, seed: int = 0) -> Batch:
    """Three groups of two ragged answers, a pair each, with a made-up reference."""
    return with_random_reference(ragged_batch(num_answers=2, seed=seed), seed=seed)


def step_gradients(engine: Engine, loaded: Loaded, batch: Batch) -> dict[str, Tensor]:
    """Gradient of one step by every trained parameter, before clipping; the engine's gradients are empty again."""
    engine.accumulate(batch)
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in loaded.trained().items()}
    engine.optimiser.zero_grad(set_to_none=True)
    return found
