"""Tower and projector in training: in the run's arithmetic, equal to the plain twin, within bounded memory."""

import weakref
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, make_batch
from sightline.models.load import Loaded, choose_trained, use_checkpointing
from sightline.objectives.objective import Objective
from tests.tiny import (
    PICTURE_TOKENS,
    gradients,
    largest_difference,
    picture,
    prompt_tokens,
    random_ids,
    stir_adapters,
    tiny_loaded,
    tiny_policy,
    tiny_trained,
    with_random_reference,
)
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
    found = gradients(loaded.trained(), loss)
    loaded.model.zero_grad(set_to_none=True)
    return found


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


class Held:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class Peak:
    """Most bytes that graphs keep at once, weights left out, each storage counted once."""

    def __init__(self, loaded: Loaded) -> None:
        self.bytes = 0
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in loaded.model.parameters()}
        self._held: Counter[tuple[int, int]] = Counter()

    def pack(self, tensor: Tensor) -> Held:
        storage = tensor.untyped_storage()
        held, key = Held(tensor), (storage.data_ptr(), storage.nbytes())
        if key[0] not in self._weights:
            self._held[key] += 1
            weakref.finalize(held, self._release, key)
            self.bytes = max(self.bytes, sum(size for _, size in self._held))
        return held

    def _release(self, key: tuple[int, int]) -> None:
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]


def pictured_batch(num: int) -> Batch:
    """Groups of one picture each, with a pair of answers."""
    prompts = [prompt_tokens(str(i), images=(picture(i),), num_text=5, seed=i) for i in range(num)]
    answers = [[random_ids(4, 10 * i), random_ids(4, 10 * i + 1)] for i in range(num)]
    pairs = [(2 * i, 2 * i + 1) for i in range(num)]
    return with_random_reference(make_batch(prompts, answers, pairs=pairs))


def peak_of(loaded: Loaded, num: int, *, token_budget: int) -> int:
    """Most bytes that graphs keep at once in a step of so many pictures."""
    engine, peak = tiny_engine(loaded, token_budget=token_budget), Peak(loaded)
    with torch.autograd.graph.saved_tensors_hooks(peak.pack, lambda held: held.tensor):
        engine.accumulate(pictured_batch(num))
    engine.optimiser.zero_grad(set_to_none=True)
    return peak.bytes


def test_what_graphs_keep_is_bounded_by_the_token_budget_and_not_by_the_step():
    loaded, budget = tiny_trained("full", **PARTS["both"]), 3 * PICTURE_TOKENS
    few, many = (peak_of(loaded, num, token_budget=budget) for num in (4, 16))
    assert many <= 1.05 * few
    assert peak_of(loaded, 16, token_budget=10**6) > 3 * many


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("train", ["full", "lora"])
def test_features_made_again_in_portions_give_the_gradient_of_one_graph(train: str, parts: str):
    loaded, batch = tiny_trained(train, **PARTS[parts]), pictured_batch(7)
    wanted = plain_gradients(loaded, batch, tiny_engine(loaded).objective)
    for budget, num_encoded in ((10**6, 7), (3 * PICTURE_TOKENS, 14), (1, 14)):
        engine = tiny_engine(loaded, token_budget=budget)
        assert largest_difference(step_gradients(engine, loaded, batch), wanted) <= 1e-5
        assert engine.policy.vision.num_encoded == num_encoded


@pytest.mark.parametrize("parts", PARTS)
def test_checkpointing_reaches_the_towers_layers_when_they_are_trained(parts: str):
    loaded, batch = tiny_trained("full", **PARTS[parts]), pictured_batch(4)
    plain = step_gradients(tiny_engine(loaded), loaded, batch)
    before = peak_of(loaded, 4, token_budget=10**6)
    use_checkpointing(loaded)
    runs: Counter[str] = Counter()
    for name, module in loaded.family.tower(loaded.model).named_modules():
        if name.endswith("mlp"):
            module.register_forward_pre_hook(lambda *_, name=name: runs.update([name]))
    assert largest_difference(step_gradients(tiny_engine(loaded), loaded, batch), plain) <= 1e-5
    assert set(runs.values()) == {1 if parts == "projector" else 2}
    assert peak_of(loaded, 4, token_budget=10**6) < 0.7 * before
