"""Judged answers as preference pairs: which, with what margin, and that portions do not matter."""

import pytest
import torch

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.rewards.contract import Judged
from sightline.train.pairing import Pairing, Which

VALUES = (1.0, 3.0, 2.0, 5.0, 5.0)


def rollout() -> Batch:
    prompts = [PromptTokens(id=str(p), ids=(1, 2, 3)) for p in range(2)]
    return make_batch(prompts, [[[5, 6], [5], [7]], [[7, 8, 9], [7, 8]]])


def paired(which: Which, *, unknown: tuple[int, ...] = ()) -> list[tuple[int, int, float]]:
    judged = [Judged(value=value) for value in VALUES]
    scorable = torch.tensor([n not in unknown for n in range(5)])
    batch = Pairing(which=which, token_budget=100)(rollout(), judged, scorable)
    return [(*pair, margin) for pair, margin in zip(batch.pairs.tolist(), batch.pair_columns["margin"], strict=True)]


def test_the_best_answer_stands_against_the_worst_and_equal_ones_against_none():
    assert paired("best_worst") == [(1, 0, 2.0)]


def test_every_two_answers_that_differ_make_a_pair():
    assert sorted(paired("all")) == [(1, 0, 2.0), (1, 2, 1.0), (2, 0, 1.0)]


def test_an_answer_without_a_reward_is_in_no_pair():
    assert paired("best_worst", unknown=(0,)) == [(1, 2, 1.0)]
    assert paired("all", unknown=(0, 1)) == []


@pytest.mark.parametrize("token_budget", [1, 6, 1000])
def test_the_reference_reads_in_portions_what_it_reads_at_once(token_budget: int):
    reference = lambda batch: torch.where(batch.mask, batch.tokens.float(), 0.0)  # noqa: E731
    pairing = Pairing(which="all", token_budget=token_budget, reference=reference)
    batch = pairing(rollout(), [Judged(value=v) for v in VALUES], torch.ones(5, dtype=torch.bool))
    assert torch.equal(batch.columns["ref_logprobs"], reference(rollout()))
