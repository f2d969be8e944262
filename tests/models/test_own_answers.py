"""Own answers: every prompt is asked once, by its content, and answers are laid beside what was said."""

from contextlib import contextmanager

import pytest
import torch

from sightline.batch import make_batch
from sightline.models.heads import AGREEMENTS, LIKELIHOODS, RatingHead
from sightline.models.own_answers import OwnAnswers
from sightline.models.reference import prompt_key
from sightline.models.scorers import Rater, gather
from tests.tiny import picture, prompt_tokens, tiny_inputs, tiny_policy, tiny_trained

RED_CIRCLE = "There is a red circle."
MORE = "There is a red circle and a blue square."


def own_answers(loaded, **options) -> OwnAnswers:
    inputs = tiny_inputs(loaded)
    return OwnAnswers(text=inputs.text, ends=inputs.ends, max_tokens=6, speaker=tiny_policy(loaded), **options)


def said(loaded, text: str) -> tuple[int, ...]:
    return (*loaded.processor.tokenizer(text).input_ids, loaded.ends[0])


def test_a_prompt_is_answered_once_whatever_its_name():
    loaded = tiny_trained("full")
    entered = []

    @contextmanager
    def speaking():
        entered.append(1)
        yield

    own = own_answers(loaded, speaking=speaking)
    same = [prompt_tokens(name, images=(picture(0),), seed=1) for name in ("a", "b")]
    other = prompt_tokens("c", images=(picture(1),), seed=1)  # the same words about another picture
    told = []
    assert len(own.ask([*same, other], told=told.append)) == 2
    assert own.ask([*same, other]) == {}
    assert (told, entered) == ([2], [1])
    own.speaker = None
    assert own.ask(same) == {}
    with pytest.raises(AssertionError, match="no longer the one that answered"):
        own.ask([prompt_tokens("d", seed=9)])


def test_every_answer_is_laid_beside_what_was_said_to_its_prompt():
    loaded = tiny_trained("full")
    own = own_answers(loaded)
    first, second = prompt_tokens("a", images=(picture(0),), seed=1), prompt_tokens("b", seed=2)
    own.said = {prompt_key(first): RED_CIRCLE, prompt_key(second): MORE}
    answers = [said(loaded, RED_CIRCLE), said(loaded, MORE)]
    batch = make_batch([first, second], [answers, answers])
    assert own(batch).tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1], [2, 0, 0]]


def test_agreement_stands_behind_the_likelihood_in_the_evidence():
    loaded = tiny_trained("full")
    policy, prompt = tiny_policy(loaded), prompt_tokens("a", images=(picture(0),), seed=1)
    batch = make_batch([prompt], [[said(loaded, MORE), said(loaded, RED_CIRCLE)]])
    _, without = gather(policy, batch, token_budget=20)
    assert not without[:, LIKELIHOODS:].any()
    own = own_answers(loaded)
    own.said = {prompt_key(prompt): RED_CIRCLE}
    policy.own = own
    for budget in (20, 1000):  # in parts, or together
        _, found = gather(policy, batch, token_budget=budget)
        torch.testing.assert_close(found[:, :LIKELIHOODS], without[:, :LIKELIHOODS])
        assert found[:, LIKELIHOODS:].tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("attributes", [0, 2])
def test_a_new_head_gives_a_point_for_what_is_shared_and_takes_one_for_what_stands_alone(attributes: int):
    head = RatingHead(4, num_attributes=attributes, with_likelihood=True, with_agreement=True)
    torch.nn.init.zeros_(head.outer.weight[:, :8])
    evidence = torch.cat([torch.randn(3, LIKELIHOODS), torch.tensor([[2.0, 0, 1], [2.0, 1, 1], [0, 3.0, 0]])], 1)
    assert evidence.shape[1] == LIKELIHOODS + AGREEMENTS
    with torch.no_grad():
        head.outer.weight[:, 8 : 8 + LIKELIHOODS] = 0
        found = head(torch.zeros(3, 3, 4), evidence)
    torch.testing.assert_close(found[:, 0], torch.tensor([2.0, 1.0, -3.0]))


def test_a_head_that_reads_own_answers_is_not_served_without_them():
    loaded = tiny_trained("full")
    policy = tiny_policy(loaded)
    policy.rating = RatingHead(policy.model.lm_head.weight.shape[1], with_agreement=True)
    batch = make_batch([prompt_tokens("a", seed=1)], [[said(loaded, MORE)]])
    with pytest.raises(AssertionError, match=r"set policy\.own"):
        policy.score(batch, want=frozenset({"ratings"}))


def test_a_rater_asks_for_what_it_has_not_heard():
    loaded = tiny_trained("full")
    policy = tiny_policy(loaded)
    own = own_answers(loaded)
    policy.own = own
    width = policy.model.lm_head.weight.shape[1]
    members = [RatingHead(width, with_agreement=True, hidden=4) for _ in range(2)]
    rater = Rater(policy=policy, members=members, units=torch.ones(2, 2, 1), ends=loaded.ends)
    prompts = [prompt_tokens("a", images=(picture(0),), seed=1), prompt_tokens("b", seed=2)]
    answers = [[said(loaded, RED_CIRCLE)], [said(loaded, MORE), said(loaded, RED_CIRCLE)]]
    found = rater.rate(prompts, answers)
    assert own.said.keys() == {prompt_key(prompt) for prompt in prompts}
    own.speaker = None
    again = rater.rate(prompts[1:], answers[1:])
    assert again[0][0].mean == pytest.approx(found[1][0].mean, abs=1e-5)
