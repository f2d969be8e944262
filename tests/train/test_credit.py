"""Credit: which columns a rollout gets, by hand values, and that portions do not matter."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.objectives.advantages import grpo, whiten
from sightline.objectives.values import gae
from sightline.rewards.contract import Judged
from sightline.train.credit import Credit

VALUES = (1.0, 3.0, 2.0, 6.0)


def rollout() -> Batch:
    """Two prompts with two answers each, of 1 to 3 tokens."""
    prompts = [PromptTokens(id=str(p), ids=(1, 2, 3)) for p in range(2)]
    batch = make_batch(prompts, [[[5, 6], [5]], [[7, 8, 9], [7, 8]]])
    behaviour = torch.where(batch.mask, -0.5, 0.0)
    return batch.with_columns(behaviour_logprobs=behaviour, weight=torch.ones(4))


def judged(values: Sequence[float | None] = VALUES) -> list[Judged]:
    return [Judged(value=v, parts={} if v is None else {"a": v, "b": 10 * v}) for v in values]


ALL = torch.ones(4, dtype=torch.bool)


def place(batch: Batch) -> Tensor:
    """A number per token that depends on its row in the whole batch: its first token."""
    return torch.where(batch.mask, batch.tokens.float() / 10, 0.0)


def test_group_rules_compare_the_answers_of_a_prompt():
    batch = Credit(rule="grpo", token_budget=100)(rollout(), judged(), ALL)
    assert torch.equal(batch.columns["advantages"], grpo(torch.tensor(VALUES), batch.group))


def test_an_answer_that_takes_no_part_gets_nothing_and_moves_nobody():
    scorable = torch.tensor([True, True, True, False])
    batch = Credit(rule="rloo", token_budget=100)(rollout(), judged((1.0, 3.0, 2.0, None)), scorable)
    assert batch.columns["advantages"].tolist() == [-2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("token_budget", [1, 6, 1000])
def test_reference_and_critic_read_in_portions_what_they_read_at_once(token_budget: int):
    credit = Credit(rule="gae", token_budget=token_budget, reference=place, values=lambda b: 2 * place(b))
    batch = credit(rollout(), judged(), ALL)
    assert torch.equal(batch.columns["ref_logprobs"], place(rollout()))
    assert torch.equal(batch.columns["old_values"], 2 * place(rollout()))


def test_the_critic_gives_whitened_advantages_and_returns():
    credit = Credit(rule="gae", token_budget=100, values=place, discount=0.9, gae_lambda=0.8)
    batch = credit(rollout(), judged(), ALL)
    rewards = torch.zeros(4, 3)
    for n, length in enumerate(batch.lengths.tolist()):
        rewards[n, length - 1] = VALUES[n]
    advantages, returns = gae(rewards, place(batch), batch.mask, discount=0.9, lam=0.8)
    assert torch.equal(batch.columns["advantages"], whiten(advantages, batch.mask))
    assert torch.equal(batch.columns["returns"], returns)


def test_the_critic_alone_learns_from_the_first_rollouts():
    credit = Credit(rule="gae", token_budget=100, values=place, warmup=1)
    assert not credit(rollout(), judged(), ALL).columns["advantages"].any()
    assert credit(rollout(), judged(), ALL).columns["advantages"].any()


def test_kl_in_the_reward_is_charged_by_answer_or_by_token():
    reference = lambda batch: torch.where(batch.mask, -0.7, 0.0)  # noqa: E731
    by_answer = Credit(rule="dr_grpo", token_budget=100, reference=reference, kl_in_reward=1.0)
    batch = by_answer(rollout(), judged(), ALL)
    charged = torch.tensor([1 - 0.4, 3 - 0.2, 2 - 0.6, 6 - 0.4])
    means = torch.stack([charged[:2].mean()] * 2 + [charged[2:].mean()] * 2)
    torch.testing.assert_close(batch.columns["advantages"], charged - means)
    by_token = Credit(rule="reinforce_pp", token_budget=100, reference=reference, kl_in_reward=1.0)
    returns = torch.tensor([[0.6, 0.8, 0], [2.8, 0, 0], [1.4, 1.6, 1.8], [5.6, 5.8, 0]])
    found = by_token(rollout(), judged(), ALL)
    torch.testing.assert_close(found.columns["advantages"], whiten(returns, found.mask), atol=1e-5, rtol=0)


def test_rewards_apart_are_heard_alike_whatever_their_scale():
    credit = Credit(rule="grpo", token_budget=100, apart=(("a", 1.0), ("b", 1.0)))
    alike = [Judged(value=0.0, parts={"a": a, "b": b}) for a, b in ((0, 100), (1, 0), (0, 0), (1, 100))]
    advantages = credit(rollout(), alike, ALL).columns["advantages"]
    assert advantages[0] == pytest.approx(0, abs=1e-4)
    assert advantages[2] < 0 < advantages[3]


def test_the_moving_baseline_goes_on_from_its_state():
    first, second = (Credit(rule="reinforce", token_budget=100) for _ in range(2))
    first(rollout(), judged(), ALL)
    second.restore(first.state())
    given = [credit(rollout(), judged((4.0, 4.0, 4.0, 4.0)), ALL).columns["advantages"] for credit in (first, second)]
    assert torch.equal(*given)
    assert given[0].tolist() == [1.0] * 4
