"""The packed forward is held to its plain twin in float32: log-probabilities, entropies, and every gradient."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from sightline.batch import make_batch
from sightline.models import attention, forward
from sightline.models.load import use_checkpointing
from tests.tiny import (
    BOTH,
    KINDS,
    TRAINED,
    gradients,
    hold_together,
    largest_difference,
    picture,
    prompt_tokens,
    ragged_batch,
    random_ids,
    tiny_policy,
    tiny_trained,
)


@pytest.mark.parametrize("trained", TRAINED)
def test_fast_equals_plain_whatever_is_trained(trained: str):
    train, options = TRAINED[trained]
    hold_together(tiny_trained(train, **options), ragged_batch(num_answers=2))


@pytest.mark.parametrize("num_answers", [1, 8])
def test_fast_equals_plain_for_one_answer_and_for_eight(num_answers: int):
    hold_together(tiny_trained("full"), ragged_batch(num_answers=num_answers))


@pytest.mark.parametrize("kind", ["llama", "siglip"])
def test_fast_equals_plain_for_another_text_model_and_for_another_tower(kind: str):
    options = {"train_tower": True, "train_projector": True}
    hold_together(tiny_trained("full", kind=kind, **options), ragged_batch(num_answers=3))


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_fast_equals_plain_for_answers_of_one_token_to_one_prompt(num_images: int):
    images = tuple(picture(i) for i in range(num_images))
    batch = make_batch([prompt_tokens("a", images=images)], [[random_ids(1, 0), random_ids(1, 1)]])
    hold_together(tiny_trained("full", train_tower=True, train_projector=True), batch)


def test_fast_equals_plain_at_another_temperature_and_without_entropy():
    hold_together(tiny_trained("lora"), ragged_batch(num_answers=2), want=frozenset({"logprobs"}), temperature=0.7)


def test_fast_equals_plain_when_only_a_part_of_each_answer_is_scored():
    batch = ragged_batch(num_answers=3)
    scored = batch.mask & (torch.rand(batch.mask.shape) < 0.6)
    scored[:, 0] |= ~scored.any(1)
    hold_together(tiny_trained("full"), replace(batch, mask=scored))


@pytest.mark.parametrize("trained", ["full with tower and projector", "lora"])
def test_gradient_checkpointing_changes_no_gradient(trained: str):
    train, options = TRAINED[trained]
    loaded, batch = tiny_trained(train, **options), ragged_batch(num_answers=2)
    weights = torch.randn(batch.tokens.shape)
    policy = tiny_policy(loaded)
    wanted = gradients(loaded.trained(), (policy.score(batch).logprobs * weights).sum())
    use_checkpointing(loaded)
    found = gradients(loaded.trained(), (policy.score(batch).logprobs * weights).sum())
    assert largest_difference(found, wanted) <= 1e-6
    hold_together(loaded, batch)


def test_logits_in_chunks_are_the_same_logits(monkeypatch: pytest.MonkeyPatch):
    loaded, batch = tiny_trained("full"), ragged_batch(num_answers=2)
    policy = tiny_policy(loaded)
    whole = policy.score(batch, want=BOTH)
    monkeypatch.setattr(forward, "CHUNK_ELEMENTS", 3 * len(loaded.processor.tokenizer))
    parts = policy.score(batch, want=BOTH)
    assert parts.entropy is not None
    assert whole.entropy is not None
    torch.testing.assert_close(parts.logprobs, whole.logprobs, atol=1e-6, rtol=0)
    torch.testing.assert_close(parts.entropy, whole.entropy, atol=1e-6, rtol=0)
    hold_together(loaded, batch)


def test_the_media_token_has_no_probability():
    policy = tiny_policy(tiny_trained("full"))
    states = torch.randn(2, policy.model.config.text_config.hidden_size)
    probabilities = policy.logits(states, 1.0).softmax(-1)
    assert bool((probabilities[:, policy.model.config.image_token_id] == 0).all())
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))


def test_an_answer_that_holds_a_media_token_is_refused_with_its_prompt():
    policy = tiny_policy(tiny_trained("full"))
    batch = make_batch([prompt_tokens("odd")], [[random_ids(3, 0), [7, policy.model.config.image_token_id, 8]]])
    with pytest.raises(ValueError, match="an answer to prompt 'odd' holds a media token"):
        policy.score(batch)


def test_scores_do_not_depend_on_what_else_is_in_the_batch():
    policy = tiny_policy(tiny_trained("full"))
    batch = ragged_batch(num_answers=3)
    together = policy.score(batch).logprobs.detach()
    for prompt in range(3):
        alone = policy.score(batch.select([prompt])).logprobs.detach()
        rows = together[batch.group == prompt][:, : alone.shape[1]]
        torch.testing.assert_close(alone, rows, atol=2e-6, rtol=0)


def test_the_picture_counts():
    policy = tiny_policy(tiny_trained("full"))
    answers = [[random_ids(6, 0)]]
    scores = [
        policy.score(make_batch([prompt_tokens("a", images=(picture(seed),))], answers)).logprobs for seed in (0, 1)
    ]
    assert float((scores[0] - scores[1]).detach().abs().max()) > 0.01


def test_a_tokenless_batch_has_empty_scores():
    policy = tiny_policy(tiny_trained("full"))
    scores = policy.score(ragged_batch().select([]), want=BOTH)
    assert scores.logprobs.shape == (0, 0)


@pytest.mark.slow
@pytest.mark.exactness
@pytest.mark.parametrize(
    ("kind", "trained", "num_answers", "checkpointing"), list(product(KINDS, TRAINED, (1, 2, 8), (False, True)))
)
def test_fast_equals_plain_in_every_setting(
    kind: str, trained: str, num_answers: int, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
):
    train, options = TRAINED[trained]
    for seed, temperature, written_out in ((0, 1.0, True), (1, 0.7, False)):
        monkeypatch.setattr(attention, "WRITTEN_OUT_DTYPES", (torch.float32,) if written_out else ())
        loaded = tiny_trained(train, kind=kind, seed=seed, **options)
        if checkpointing:
            use_checkpointing(loaded)
        batch = ragged_batch(num_answers=num_answers, seed=seed)
        hold_together(loaded, batch, temperature=temperature)
