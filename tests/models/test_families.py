"""The contract of every family, on tiny random models: transformers' own forward, the twin and the fast path agree.

A chain of three: what transformers makes of its own processor's inputs, one answer at a time; the plain twin; the
packed forward with every gradient. Sampling is held to the same forward. Then each thing that a family does otherwise
is taken away, and the comparison must notice.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.models import attention
from sightline.models.families import Family
from sightline.models.forward import Policy
from sightline.models.heads import make_critic
from sightline.models.load import Loaded, choose_trained, load_model, save_merged, use_checkpointing
from sightline.models.sampler import SamplingParams, sample
from sightline.records import Prompt
from sightline.train.verify import check_first_batch
from tests.families import (
    ROWS,
    family_batch,
    family_loaded,
    family_prompts,
    family_trained,
)
from tests.own_processors import SHOWN, own_inputs, records
from tests.tiny import (
    TOLERANCE,
    TRAINED,
    gradients,
    hold_together,
    largest_difference,
    step_in_micro_batches,
    taken_gradients,
    tiny_policy,
)

EVERYTHING = {"train_tower": True, "train_projector": True}


def own_logits(name: str, loaded: Loaded, prompt: Prompt, answer: list[int]) -> Tensor:
    """[answer, vocabulary] logits of the model's own forward on prompt and answer, media tokens left out."""
    given = own_inputs(name, loaded, prompt)
    start = given["input_ids"].shape[1]
    kinds = {"input_ids": torch.as_tensor([answer]), "attention_mask": torch.ones(1, len(answer), dtype=torch.long)}
    zeros = torch.zeros(1, len(answer), dtype=torch.long)
    kinds |= {"mm_token_type_ids": zeros, "token_type_ids": zeros + int(name == "paligemma")}
    for key in kinds.keys() & given.keys():
        given[key] = torch.cat([given[key], kinds[key]], 1)
    with torch.no_grad():
        logits = loaded.model(**given, use_cache=False).logits[0, start - 1 : -1]
    logits[:, list(loaded.family.media_tokens(loaded.model.config))] = float("-inf")
    return logits


@pytest.mark.parametrize("name", ROWS)
def test_twin_and_fast_path_are_what_transformers_makes_of_its_own_inputs(name: str):
    loaded = family_loaded(name)
    batch, policy, prompts = family_batch(loaded), tiny_policy(loaded), records(SHOWN)
    with torch.no_grad():
        fast, plain = policy.score(batch).logprobs, policy.score_plain(batch).logprobs
    for row, group in enumerate(batch.group.tolist()):
        answer = batch.tokens[row, : batch.lengths[row]]
        logits = own_logits(name, loaded, prompts[batch.prompts[group].id], answer.tolist())
        wanted = logits.log_softmax(-1).gather(1, answer[:, None]).squeeze(1)
        for found in (plain, fast):
            assert float((found[row, : len(answer)] - wanted).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("name", ROWS)
def test_the_fast_path_equals_the_twin_in_every_gradient(name: str):
    loaded = family_trained(name, "full", **EVERYTHING)
    hold_together(loaded, family_batch(loaded, num_answers=2))


@pytest.mark.parametrize("name", ROWS)
def test_checkpointed_adapters_on_a_frozen_tower_equal_the_twin(name: str):
    loaded = family_trained(name, "lora", seed=1)
    use_checkpointing(loaded)
    hold_together(loaded, family_batch(loaded, num_answers=3, seed=1), temperature=0.7)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("portions", ["one", "each picture"])
def test_micro_batches_and_features_once_give_tower_and_projector_their_direct_gradients(name: str, portions: str):
    loaded = family_trained(name, "full", **EVERYTHING)
    policy, batch = tiny_policy(loaded), family_batch(loaded)
    weights = torch.randn(batch.tokens.shape)
    wanted = gradients(loaded.trained(), (policy.score_plain(batch).logprobs * weights).sum())
    budget = 10**6 if portions == "one" else 1
    step_in_micro_batches(policy, batch, weights, loaded.trained(), token_budget=budget)
    assert largest_difference(taken_gradients(loaded.trained()), wanted) <= TOLERANCE


@pytest.mark.parametrize("name", ROWS)
def test_sampling_prefills_once_and_says_what_the_plain_forward_says(name: str):
    loaded = family_loaded(name, seed=2)
    policy, prompts = tiny_policy(loaded), family_prompts(loaded)
    greedy = SamplingParams(temperature=0, max_tokens=12)
    for record, answers in zip(
        records(SHOWN).values(), sample(policy, prompts, num=1, params=greedy, ends=()), strict=True
    ):
        logits = own_logits(name, loaded, record, list(answers[0].token_ids))
        assert logits.argmax(-1).tolist() == list(answers[0].token_ids)
    seeded = SamplingParams(temperature=1.0, max_tokens=12, seed=1)
    drawn = sample(policy, prompts, num=3, params=seeded, ends=loaded.ends)
    batch = make_batch(prompts, [[answer.token_ids for answer in answers] for answers in drawn])
    with torch.no_grad():
        plain = policy.score_plain(batch).logprobs
    for row, answer in zip(plain, (answer for answers in drawn for answer in answers), strict=True):
        given = torch.as_tensor(answer.logprobs)
        assert float((row[: len(given)] - given).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("name", ROWS)
def test_scores_do_not_depend_on_company_and_the_picture_counts(name: str):
    loaded = family_loaded(name)
    policy, batch = tiny_policy(loaded), family_batch(loaded)
    other = make_batch(
        family_prompts(loaded, seed=4),
        [batch.tokens[n : n + 2][:, : int(batch.lengths[n : n + 2].min())].tolist() for n in range(0, 8, 2)],
    )
    with torch.no_grad():
        together = policy.score(batch).logprobs
        changed = policy.score(other).logprobs
        for prompt in range(len(batch.prompts)):
            alone = policy.score(batch.select([prompt])).logprobs
            rows = together[batch.group == prompt][:, : alone.shape[1]]
            torch.testing.assert_close(alone, rows, atol=TOLERANCE, rtol=0)
    moved = (changed - together[:, : changed.shape[1]]).abs()[other.mask & batch.mask[:, : changed.shape[1]]]
    assert float(moved.max()) > 0.01


def without(family: Family, what: str) -> Family:
    """The family with one thing taken away, as if nobody had thought of it."""
    if what == "deep features":

        def shallow(model: Any, pixels: Any, grids: Any) -> list[Tensor]:
            width = model.config.text_config.hidden_size
            return [feature[:, :width] for feature in family.encode(model, pixels, grids)]

        return replace(family, encode=shallow)
    if what == "a level of deep features":

        def swapped(model: Any, pixels: Any, grids: Any) -> list[Tensor]:
            width = model.config.text_config.hidden_size
            parts = [feature.split(width, 1) for feature in family.encode(model, pixels, grids)]
            return [torch.cat([first, third, second], 1) for first, second, third in parts]

        return replace(family, encode=swapped)
    if what == "an axis":

        def flat(config: Any, prompt: PromptTokens) -> Tensor:
            assert family.positions is not None
            time, row, _ = family.positions(config, prompt)
            return torch.stack([time, row, row])

        return replace(family, positions=flat)
    return replace(family, **{what: None})


PLANTED = [
    ("qwen2-vl", "positions"),
    ("qwen2.5-vl", "positions"),
    ("qwen2.5-vl", "an axis"),
    ("qwen3-vl", "positions"),
    ("qwen3-vl", "deep features"),
    ("qwen3-vl", "a level of deep features"),
    ("gemma3", "joined"),
    ("paligemma", "joined"),
]


MEDIA = ("<image>", "<video>", "<|image_pad|>", "<|video_pad|>", "<image_soft_token>", "<IMG_CONTEXT>")


@pytest.mark.parametrize("name", ROWS)
def test_no_answer_can_hold_a_media_token(name: str):
    loaded = family_loaded(name)
    tokens = loaded.processor.tokenizer.get_vocab()
    media = sorted(tokens[word] for word in MEDIA if word in tokens)
    if name == "internvl":  # whose video frames are pictures: the video token stays in the text
        media.remove(tokens["<video>"])
    logits = tiny_policy(loaded).logits(torch.randn(1, 32), 1.0)[0]
    assert (logits == float("-inf")).nonzero().flatten().tolist() == media


@pytest.mark.parametrize(("name", "what"), PLANTED)
def test_what_a_family_does_otherwise_is_missed_when_it_is_taken_away(name: str, what: str):
    loaded = family_loaded(name)
    batch = family_batch(loaded)
    hold_scores(loaded, batch)
    with pytest.raises(AssertionError):
        hold_scores(replace(loaded, family=without(loaded.family, what)), batch)


def test_deep_features_that_carry_no_gradient_are_missed():
    loaded = family_trained("qwen3-vl", "full", **EVERYTHING)
    encode, width = loaded.family.encode, loaded.model.config.text_config.hidden_size

    def cut(model: Any, pixels: Any, grids: Any) -> list[Tensor]:
        return [torch.cat([f[:, :width], f[:, width:].detach()], 1) for f in encode(model, pixels, grids)]

    broken = replace(loaded, family=replace(loaded.family, encode=cut))
    hold_scores(broken, family_batch(loaded))
    with pytest.raises(AssertionError):
        hold_together(broken, family_batch(loaded))


def test_windows_that_nobody_thought_of_are_missed():
    loaded = family_loaded("gemma3")
    policy, batch = tiny_policy(loaded), family_batch(loaded)
    policy.windows = ()
    with torch.no_grad():
        apart = policy.score(batch).logprobs - policy.score_plain(batch).logprobs
    assert float(apart.abs().max()) > 1e-3


def hold_scores(loaded: Loaded, batch: Batch) -> None:
    policy = tiny_policy(loaded)
    with torch.no_grad():
        apart = policy.score(batch).logprobs - policy.score_plain(batch).logprobs
    assert float(apart.abs().max()) <= TOLERANCE


def test_positions_count_from_one_where_the_family_does():
    loaded = family_loaded("paligemma")
    layout = tiny_policy(loaded).lay_out(family_batch(loaded))
    assert layout.positions[0] == 1
    assert layout.next_position.tolist() == [len(prompt.ids) + 1 for prompt in family_batch(loaded).prompts]


def test_a_picture_takes_fewer_positions_than_tokens_in_three_axes():
    loaded = family_loaded("qwen2.5-vl")
    prompt = family_prompts(loaded)[0]
    rows, columns = prompt.images[0].grid[1] // 2, prompt.images[0].grid[2] // 2
    layout = tiny_policy(loaded).lay_out(make_batch([prompt], [[(20, 21)]]))
    assert layout.positions.shape == (3, len(prompt.ids) + 1)
    taken = len(prompt.ids) - rows * columns + max(rows, columns)
    assert layout.next_position.tolist() == [taken]
    assert layout.positions[:, -1].tolist() == [taken] * 3


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("trained", ["lora", "lora with projector", "full with tower and projector"])
def test_the_check_of_a_runs_first_batch_passes(name: str, dtype: str, trained: str, tmp_path: Path):
    save_merged(family_loaded(name), tmp_path)
    train, options = TRAINED[trained]
    loaded = choose_trained(load_model(str(tmp_path), dtype=dtype), train=train, rank=4, **options)
    assert "equals the plain one" in check_first_batch(tiny_policy(loaded), family_batch(loaded))


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "llava-onevision", "gemma3"])
def test_a_critic_of_its_own_equals_its_twin(name: str):
    loaded = family_trained(name, "lora", train_projector=True)
    critic = make_critic(loaded.model, loaded.family, separate=True)
    torch.nn.init.normal_(critic.head.weight, std=0.2)
    policy, batch = Policy(loaded.model, loaded.family, critic=critic), family_batch(loaded)
    names = critic.trained()
    assert names
    assert not any("visual" in each or "projector" in each or "newline" in each for each in names)
    found = [score(batch, want=frozenset({"values"})).values for score in (policy.score, policy.score_plain)]
    assert float((found[0] - found[1]).detach().abs().max()) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.exactness
@pytest.mark.parametrize(
    ("name", "trained", "num_answers", "checkpointing"), list(product(ROWS, TRAINED, (1, 2, 8), (False, True)))
)
def test_the_fast_path_equals_the_twin_in_every_setting(
    name: str, trained: str, num_answers: int, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
):
    train, options = TRAINED[trained]
    if num_answers == 2:  # the other kernel
        monkeypatch.setattr(attention, "WRITTEN_OUT_ELEMENTS", 0)
    loaded = family_trained(name, train, seed=num_answers, **options)
    if checkpointing:
        use_checkpointing(loaded)
    hold_together(loaded, family_batch(loaded, num_answers=num_answers, seed=num_answers))
