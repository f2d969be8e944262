"""Tower and projector in training: in the run's arithmetic, equal to the plain twin, within bounded memory."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch
from sightline.models.load import Loaded, choose_trained
from sightline.objectives.objective import Objective
from tests.tiny import gradients, picture, stir_adapters, tiny_loaded, tiny_policy
from tests.train.engines import preference_batch, step_gradients, tiny_engine

PARTS = {
    "tower": {"train_tower": True},
    "projector": {"train_projector": True},
    "both": {"train_tower": True, "train_projector": True},
}


def in_bfloat16(train: str, parts: dict[str, bool]) -> Loaded:
    """The tiny model as a run in bfloat16 has it: frozen weights in bfloat16, trained ones in float32."""
    loaded = tiny_loaded()
    torch.nn.Module.to(loaded.model, torch.bfloat16)
    loaded = choose_trained(replace(loaded, dtype="bfloat16"), train=train, rank=4, alpha=8, **parts)
    if train == "lora":
        stir_adapters(loaded)
    return loaded


def plain_gradients(loaded: Loaded, batch: Batch, objective: Objective) -> dict[str, Tensor]:
    """Gradient of the step by the plain twin, all answers at once."""
    outcome = objective.compute(tiny_policy(loaded).score_plain(batch), batch)
    counts = objective.counts(batch)
    loss = torch.stack([objective.weights[name] * term / counts[name] for name, term in outcome.terms.items()]).sum()
    return gradients(loaded.trained(), loss)


def apart(found: dict[str, Tensor], wanted: dict[str, Tensor], part: str) -> float:
    """Norm of the difference over the wanted norm, over all parameters of a part."""
    names = [name for name in wanted if part in name]
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in names])
    return float(difference.norm() / torch.cat([wanted[name].flatten() for name in names]).norm())


@pytest.mark.parametrize("train", ["full", "lora"])
@pytest.mark.parametrize("parts", PARTS)
def test_trained_vision_in_bfloat16_is_as_near_to_float32_as_the_plain_twin(train: str, parts: str):
    loaded, batch = in_bfloat16(train, PARTS[parts]), preference_batch()
    engine = tiny_engine(loaded, token_budget=1)
    found = step_gradients(engine, loaded, batch)
    plain = plain_gradients(loaded, batch, engine.objective)
    torch.nn.Module.to(loaded.model, torch.float32)
    exact = plain_gradients(replace(loaded, dtype="float32"), batch, engine.objective)
    for part in ("vision_tower", "multi_modal_projector", "language_model"):
        if any(part in name for name in exact):
            assert apart(found, exact, part) <= 2 * apart(plain, exact, part) < 0.5
    assert engine.update(batch)["optim/skipped"] == 0


@pytest.mark.parametrize("parts", PARTS)
def test_trained_vision_computes_in_the_runs_arithmetic(parts: str):
    policy = tiny_policy(in_bfloat16("lora", PARTS[parts]))
    assert policy.vision.features([picture(0)])["picture-0"].dtype == torch.bfloat16
