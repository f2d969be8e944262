from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from sightline.batch import Batch, Outcome, Scores, make_batch, split
from sightline.models.layout import packed_length
from sightline.models.load import Loaded
from sightline.objectives.imitation import sft_objective
from sightline.objectives.preference import dpo_objective
from sightline.train.engine import TrainingStopped
from sightline.train.verify import save_batch
from tests.tiny import (
    PICTURE_TOKENS,
    largest_difference,
    picture,
    prompt_tokens,
    random_ids,
    tiny_trained,
    with_random_reference,
)
from tests.train.engines import preference_batch, step_gradients, tiny_engine

OBJECTIVES = {"sft": sft_objective(normalise="answer"), "dpo": dpo_objective(beta=0.5, nll_weight=0.2)}
TRAINED = {"train_tower": True, "train_projector": True}


@st.composite
def steps(draw: st.DrawFn) -> Batch:
    """1 to 5 groups with 0 to 2 of three pictures, 2 or 3 ragged answers, and pairs among them."""
    prompts, answers, pairs = [], [], []
    num_before = 0
    for number in range(draw(st.integers(1, 5))):
        images = tuple(picture(seed) for seed in draw(st.lists(st.integers(0, 2), max_size=2)))
        prompts.append(prompt_tokens(str(number), images=images, num_text=6 + draw(st.integers(0, 4)), seed=number))
        lengths = draw(st.lists(st.integers(1, 12), min_size=2, max_size=3))
        answers.append([random_ids(n, 10 * number + i) for i, n in enumerate(lengths)])
        pairs += [(num_before + i, num_before) for i in range(1, len(lengths))]
        num_before += len(lengths)
    return with_random_reference(make_batch(prompts, answers, pairs=pairs))


@pytest.fixture(scope="module")
def whole() -> Loaded:
    """Language model, projector and tower are trained."""
    return tiny_trained("full", **TRAINED)


def not_finite(scores: Scores, batch: Batch) -> Outcome:
    return Outcome(terms={"sft": scores.logprobs.sum() * float("nan")})


@pytest.mark.parametrize("name", OBJECTIVES)
@settings(max_examples=15, deadline=None)
@given(batch=steps(), token_budget=st.integers(1, 120))
def test_any_split_of_a_step_gives_the_same_gradient(name: str, whole: Loaded, batch: Batch, token_budget: int):
    at_once = tiny_engine(whole, objective=OBJECTIVES[name], token_budget=10**9)
    cut = tiny_engine(whole, objective=OBJECTIVES[name], token_budget=token_budget)
    wanted = step_gradients(at_once, whole, batch)
    assert largest_difference(step_gradients(cut, whole, batch), wanted) <= 1e-5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_split_of_a_step_gives_the_same_metrics_and_weights(name: str):
    found = []
    for token_budget in (10**9, 30, 1):
        loaded = tiny_trained("lora")
        engine = tiny_engine(loaded, objective=OBJECTIVES[name], token_budget=token_budget, max_grad_norm=0.5)
        metrics = [engine.update(preference_batch(seed=seed)) for seed in range(3)]
        found.append((metrics, loaded.trained()))
    for metrics, trained in found[1:]:
        for mine, theirs in zip(metrics, found[0][0], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)
        for parameter, wanted in zip(trained.values(), found[0][1].values(), strict=True):
            torch.testing.assert_close(parameter, wanted, atol=1e-5, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(batch=steps(), token_budget=st.integers(1, 120))
def test_micro_batches_hold_whole_groups_in_order_under_the_budget(batch: Batch, token_budget: int):
    parts = split(batch, token_budget=token_budget)
    assert [p.id for part in parts for p in part.prompts] == [p.id for p in batch.prompts]
    assert sum(part.num_answers for part in parts) == batch.num_answers
    assert sum(len(part.pairs) for part in parts) == len(batch.pairs)
    assert sum(packed_length(part) for part in parts) == packed_length(batch)
    for part in parts:
        assert packed_length(part) <= token_budget or len(part.prompts) == 1
    for one, following in pairwise(parts):
        assert packed_length(one) + packed_length(following.select([0])) > token_budget


def test_a_step_equals_torch_by_hand():
    batch, loaded, twin = preference_batch(), tiny_trained("full", **TRAINED), tiny_trained("full", **TRAINED)
    engine = tiny_engine(loaded, token_budget=1, max_grad_norm=0.1, learning_rate=1e-2)
    engine.optimiser = torch.optim.SGD(loaded.trained().values(), lr=1.0)
    metrics = engine.update(batch)

    plain = tiny_engine(twin)
    outcome = plain.objective.compute(plain.policy.score_plain(batch), batch)
    loss = outcome.terms["dpo"] / 3 + 0.2 * outcome.terms["nll"] / plain.objective.counts(batch)["nll"]
    loss.backward()
    parameters = twin.trained()
    norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), 0.1))
    torch.optim.SGD(parameters.values(), lr=1e-2).step()

    assert norm > 0.1
    assert metrics["loss/total"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert metrics["optim/grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert metrics["optim/learning_rate"] == 1e-2
    for name, parameter in loaded.trained().items():
        torch.testing.assert_close(parameter, parameters[name], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("limit", [0.0, 0.01, 1e6])
def test_gradients_are_scaled_down_to_the_limit_and_never_up(limit: float):
    loaded = tiny_trained("lora")
    engine = tiny_engine(loaded, max_grad_norm=limit)
    wanted = step_gradients(engine, loaded, preference_batch())
    norm = float(torch.stack([gradient.norm() for gradient in wanted.values()]).norm())
    assert 0.01 < norm < 1e6
    engine.update(preference_batch())
    scale = min(1.0, limit / norm) if limit else 1.0
    for name, parameter in loaded.trained().items():
        first_moment = engine.optimiser.state[parameter]["exp_avg"]
        torch.testing.assert_close(first_moment, 0.1 * scale * wanted[name], atol=1e-8, rtol=1e-4)


def test_a_step_that_is_not_finite_is_skipped_and_its_batch_saved(tmp_path: Path):
    loaded, batch = tiny_trained("lora"), preference_batch()
    before = {name: p.detach().clone() for name, p in loaded.trained().items()}
    engine = tiny_engine(loaded, quarantine=lambda b, step, why: save_batch(tmp_path, b, step, why))
    reference = batch.columns["ref_logprobs"].clone()
    reference[0, 0] = float("inf")
    metrics = engine.update(batch.with_columns(ref_logprobs=reference))
    assert metrics["optim/skipped"] == 1
    assert (engine.step, engine.bad_steps) == (1, 1)
    assert all(torch.equal(p, before[name]) for name, p in loaded.trained().items())
    assert all(p.grad is None for p in loaded.trained().values())
    assert not engine.optimiser.state
    kept = load_file(tmp_path / "step-000001.safetensors")
    assert torch.equal(kept["tokens"], batch.tokens)
    assert torch.equal(kept["columns.ref_logprobs"], reference)
    assert engine.update(batch)["optim/skipped"] == 0
    assert (engine.step, engine.bad_steps) == (2, 0)


def test_three_steps_in_a_row_that_are_not_finite_stop_the_run_with_a_sentence(tmp_path: Path):
    engine = tiny_engine(
        tiny_trained("lora"),
        objective=replace(sft_objective(), compute=not_finite),
        quarantine=lambda b, step, why: save_batch(tmp_path, b, step, why),
    )
    for _ in range(2):
        assert engine.update(preference_batch())["optim/skipped"] == 1
    with pytest.raises(
        TrainingStopped, match=r"3 steps in a row were not finite .* the last batch is kept in .*000003"
    ):
        engine.update(preference_batch())
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_a_good_step_between_starts_the_count_anew():
    loaded = tiny_trained("lora")
    good = sft_objective()
    engine = tiny_engine(loaded, objective=good)
    for bad in (True, True, False, True, True, False):
        engine.objective = replace(good, compute=not_finite) if bad else good
        engine.update(preference_batch())
    assert engine.bad_steps == 0


def test_measuring_gives_the_numbers_of_an_update_and_touches_nothing():
    loaded, batch = tiny_trained("full", **TRAINED), preference_batch()
    engine = tiny_engine(loaded)
    before = {name: p.detach().clone() for name, p in loaded.trained().items()}
    whole = engine.measure([batch])
    parts = replace(engine, token_budget=1).measure([batch.select([0, 1]), batch.select([2])])
    assert engine.step == 0
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in loaded.trained().items())
    assert parts == pytest.approx(whole, rel=1e-5, abs=1e-6)
    updated = engine.update(batch)
    assert whole == pytest.approx({name: updated[name] for name in whole}, rel=1e-5, abs=1e-6)


def test_a_step_whose_groups_hold_nothing_to_learn_moves_nothing():
    loaded = tiny_trained("full")
    batch = preference_batch()
    nothing = batch.with_columns(imitate=torch.zeros(batch.num_answers, dtype=torch.bool))
    engine = tiny_engine(loaded, objective=sft_objective())
    before = {name: p.detach().clone() for name, p in loaded.trained().items()}
    metrics = engine.update(nothing)
    assert metrics["loss/total"] == 0
    assert all(torch.equal(p, before[name]) for name, p in loaded.trained().items())


@pytest.mark.parametrize(("token_budget", "num_encoded"), [(10**6, 2), (2 * PICTURE_TOKENS, 2), (1, 4)])
def test_a_trained_tower_sees_a_picture_once_per_step_and_again_when_the_steps_pictures_exceed_the_budget(
    token_budget: int, num_encoded: int
):
    loaded = tiny_trained("full", **TRAINED)
    engine = tiny_engine(loaded, token_budget=token_budget)
    engine.update(preference_batch())
    assert engine.policy.vision.num_encoded == num_encoded
