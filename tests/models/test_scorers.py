"""Ensembles of rating heads: they learn, differ where nothing is known, and read every answer to its end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sightline.batch import make_batch
from sightline.models.heads import EVIDENCE, RatingHead
from sightline.models.scorers import Compared, Fit, Rater, Rating, fit_members, gather, units_of
from tests.tiny import picture, prompt_tokens, tiny_policy, tiny_trained

FIT = Fit(members=3, hidden=8, epochs=20, batch_size=64, learning_rate=1e-2)
WIDTH = 6


def made_up(num: int = 200, *, noise: float = 0.0, aspect: int = 0) -> Compared:
    """Pairs of answers of random states; the one with the larger first number is better, and longer by chance."""
    generator = torch.Generator().manual_seed(num)
    states = torch.randn(2 * num, 3, WIDTH, generator=generator)
    left, right = torch.arange(0, 2 * num, 2), torch.arange(1, 2 * num, 2)
    wins = states[left, 1, 0] + noise * torch.randn(num, generator=generator) > states[right, 1, 0]
    pairs = torch.stack([torch.where(wins, left, right), torch.where(wins, right, left)], 1)
    return Compared(
        states=states,
        evidence=torch.randn(2 * num, EVIDENCE, generator=generator),
        lengths=torch.randint(1, 20, (2 * num,), generator=generator),
        group=torch.arange(num).repeat_interleave(2),
        pairs=pairs,
        margin=torch.ones(num),
        tie=torch.zeros(num, dtype=torch.bool),
        aspect=torch.full((num,), aspect),
    )


def right_share(members: list[RatingHead], compared: Compared, column: int = 0) -> float:
    with torch.no_grad():
        said = torch.stack([m(compared.states, compared.evidence) for m in members]).mean(0)[:, column]
    return float((said[compared.pairs[:, 0]] > said[compared.pairs[:, 1]]).float().mean())


def test_members_learn_to_rank_and_differ_from_one_another():
    members = fit_members(made_up(400), FIT)
    assert right_share(members, made_up(150)) > 0.9
    weights = [member.outer.weight for member in members]
    assert not torch.equal(weights[0], weights[1])
    again = fit_members(made_up(400), FIT)
    assert all(torch.equal(a.outer.weight, b.outer.weight) for a, b in zip(members, again, strict=True))


def test_members_differ_more_far_from_what_was_compared():
    members = fit_members(made_up(400, noise=0.5), FIT)
    near = made_up(150)
    rater = Rater(policy=None, members=members, units=units_of(members, near), ends=(0,))  # type: ignore[arg-type]
    said = [rater.members_say(states, near.evidence) for states in (near.states, 8 * near.states)]
    assert said[1][..., 0].std(0).mean() > 1.5 * said[0][..., 0].std(0).mean()
    assert float(said[0][..., 0].mean()) == pytest.approx(0, abs=1e-5)


def test_the_log_probabilities_are_read_where_that_is_asked_for():
    compared = made_up(300)
    left, right = torch.arange(0, 600, 2), torch.arange(1, 600, 2)
    wins = compared.evidence[left, 0] > compared.evidence[right, 0]
    pairs = torch.stack([torch.where(wins, left, right), torch.where(wins, right, left)], 1)
    likely = replace(compared, pairs=pairs)
    fits = [replace(FIT, with_likelihood=read, epochs=40) for read in (True, False)]
    reads, does_not = (right_share(fit_members(likely, fit), likely) for fit in fits)
    assert reads > 0.93
    assert does_not < 0.9


def test_an_attribute_is_learned_from_its_own_comparisons():
    overall, second = made_up(200), made_up(300, aspect=1)
    both = Compared(
        states=torch.cat([overall.states, second.states.flip(-1)]),
        evidence=torch.cat([overall.evidence, second.evidence]),
        lengths=torch.cat([overall.lengths, second.lengths]),
        group=torch.cat([overall.group, second.group + 200]),
        pairs=torch.cat([overall.pairs, second.pairs + 400]),
        margin=torch.ones(500),
        tie=torch.zeros(500, dtype=torch.bool),
        aspect=torch.cat([overall.aspect, second.aspect]),
    )
    members = fit_members(both, replace(FIT, num_attributes=2))
    fresh = made_up(150, aspect=1)
    assert right_share(members, replace(fresh, states=fresh.states.flip(-1)), column=1) > 0.9


def test_a_length_head_keeps_the_rating_free_of_length():
    compared = made_up(600)
    # the longer answer wins, whatever is in it; its length can be read off the last number of its state
    longer = compared.lengths[0::2] >= compared.lengths[1::2]
    left, right = torch.arange(0, 1200, 2), torch.arange(1, 1200, 2)
    pairs = torch.stack([torch.where(longer, left, right), torch.where(longer, right, left)], 1)
    states = compared.states.clone()
    states[:, 1, -1] = (compared.lengths.float() - 10) / 5
    biased = replace(compared, pairs=pairs, states=states)

    def correlation(fit: Fit) -> float:
        members = fit_members(biased, fit)
        with torch.no_grad():
            said = torch.stack([m(states, compared.evidence) for m in members]).mean(0)[:, 0]
        return abs(float(np.corrcoef(said.numpy(), compared.lengths.numpy())[0, 1]))

    assert correlation(FIT) > 0.8
    assert correlation(replace(FIT, length_weight=1.0)) < 0.3


def test_ratings_read_every_answer_to_its_end_and_do_not_depend_on_company():
    policy = tiny_policy(tiny_trained("full"))
    prompts = [prompt_tokens("a", images=(picture(0),), seed=1), prompt_tokens("b", seed=2)]
    answers = [[(5, 6), (5, 7), (5, 6, 2)], [(8,)]]
    width = policy.model.lm_head.weight.shape[1]
    members = [RatingHead(width, hidden=4) for _ in range(3)]
    rater = Rater(policy=policy, members=members, units=torch.ones(3, 2, 1), ends=(2,), token_budget=10)
    found = rater.rate(prompts, answers)
    assert [len(group) for group in found] == [3, 1]
    assert found[0][0].mean == pytest.approx(found[0][2].mean, abs=1e-5)  # the first was cut before its end
    assert found[0][0].mean != pytest.approx(found[0][1].mean, abs=1e-5)
    alone = rater.rate(prompts[1:], answers[1:])
    assert alone[0][0].mean == pytest.approx(found[1][0].mean, abs=1e-5)
    assert rater.rate(prompts, [[], []]) == [[], []]


def test_states_are_those_behind_prompts_and_before_ends():
    policy = tiny_policy(tiny_trained("full"))
    batch = make_batch([prompt_tokens("a", images=(picture(0),))], [[(5, 6, 7), (5, 6)]])
    states, evidence = gather(policy, batch, token_budget=100)
    assert states.shape[:2] == (2, 3)
    torch.testing.assert_close(states[0, 0], states[1, 0])
    other = make_batch([prompt_tokens("a", images=(picture(0),))], [[(5, 6, 9)]])
    torch.testing.assert_close(gather(policy, other, token_budget=100)[0][0], states[0], atol=1e-5, rtol=0)
    # of two tokens: the state behind the prompt predicts the first, the one before the end the second
    torch.testing.assert_close(16 * states[1, 2], states[1, 0] + states[1, 1], atol=1e-4, rtol=0)
    totals = policy.score(batch).logprobs.sum(1)
    torch.testing.assert_close(evidence[:, 0] * 16, totals, atol=1e-4, rtol=0)
    torch.testing.assert_close(evidence[:, 1] * batch.lengths, totals, atol=1e-4, rtol=0)


def test_the_penalty_is_taken_off_the_mean():
    assert Rating(mean=1.0, spread=0.25).less(2.0) == 0.5
