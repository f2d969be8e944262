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


def rollout(*, value: float = 1.0) -> Batch:
    """Two prompts with two answers each, of 1 to 3 tokens; the critic says `value` times a tenth of a token's id."""
    prompts = [PromptTokens(id=str(p), ids=(1, 2, 3)) for p in range(2)]
    batch = make_batch(prompts, [[[5, 6], [5]], [[7, 8, 9], [7, 8]]])
    behaviour = torch.where(batch.mask, -0.5, 0.0)
    return batch.with_columns(behaviour_logprobs=behaviour, old_values=value * place(batch), weight=torch.ones(4))


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
def test_the_reference_reads_in_portions_what_it_reads_at_once(token_budget: int):
    batch = Credit(rule="grpo", token_budget=token_budget, reference=place)(rollout(), judged(), ALL)
    assert torch.equal(batch.columns["ref_logprobs"], place(rollout()))


def test_the_critic_gives_whitened_advantages_and_returns_in_units_of_the_first_rollout():
    credit = Credit(rule="gae", token_budget=100, discount=0.9, gae_lambda=0.8)
    mean, spread = float(torch.tensor(VALUES).mean()), float(torch.tensor(VALUES).std())
    for values in (VALUES, (0.0, 9.0, 2.0, 1.0)):
        batch = credit(rollout(), judged(values), ALL)
        rewards = torch.zeros(4, 3)
        for n, length in enumerate(batch.lengths.tolist()):
            rewards[n, length - 1] = values[n]
        said = torch.where(batch.mask, place(batch) * spread + mean, 0.0)
        advantages, returns = gae(rewards, said, batch.mask, discount=0.9, lam=0.8)
        torch.testing.assert_close(batch.columns["advantages"], whiten(advantages, batch.mask))
        torch.testing.assert_close(batch.columns["returns"], torch.where(batch.mask, (returns - mean) / spread, 0.0))
        assert torch.equal(batch.columns["old_values"], place(batch))
    assert credit.state()["units"] == [mean, spread]


def test_a_critic_that_says_nothing_expects_the_mean_whatever_the_scale():
    for scale in (1.0, 100.0):
        credit = Credit(rule="gae", token_budget=100)
        batch = credit(rollout(value=0.0), judged(tuple(scale * v for v in VALUES)), ALL)
        returns = [float(row[0]) for row in batch.columns["returns"]]
        torch.testing.assert_close(torch.tensor(returns), (torch.tensor(VALUES) - 3) / torch.tensor(VALUES).std())


def test_rewards_lie_where_they_were_placed_and_the_rest_on_the_last_token():
    credit = Credit(rule="reinforce_pp", token_budget=100, text_ends=lambda ids: [3 * (n + 1) for n in range(len(ids))])
    said = judged()
    said[0] = Judged(value=1.0, placed=((2, 0.25),))
    said[2] = Judged(value=2.0, placed=((3, 0.5), (4, 0.5), (6, -1.0), (99, 7.0)))
    batch = credit(rollout(), said, ALL)
    returns = torch.tensor([[1.0, 0.75, 0], [3, 0, 0], [2.0, 1.5, 2.0], [6, 6, 0]])
    torch.testing.assert_close(batch.columns["advantages"], whiten(returns, batch.mask))
    alike = Credit(rule="grpo", token_budget=100)
    assert torch.equal(
        alike(rollout(), said, ALL).columns["advantages"], alike(rollout(), judged(), ALL).columns["advantages"]
    )


def test_the_weight_of_the_kl_follows_its_target():
    credits = [
        Credit(
            rule="dr_grpo",
            token_budget=100,
            reference=lambda batch, gap=gap: torch.where(batch.mask, -0.5 - gap, 0.0),
            kl_in_reward=1.0,
            kl_target=0.1,
            kl_horizon=4.0,
        )
        for gap in (1.0, 0.01)
    ]
    first = [credit(rollout(), judged(), ALL) for credit in credits]
    assert [batch.columns["kl_factor"].tolist() for batch in first] == [[1.0] * 4] * 2
    assert [credit.facts()["kl/weight_factor"] for credit in credits] == pytest.approx([1.2, 0.8])
    resumed = Credit(rule="dr_grpo", token_budget=100, reference=credits[0].reference, kl_in_reward=1.0, kl_target=0.1)
    resumed.restore(credits[0].state())
    fixed = Credit(rule="dr_grpo", token_budget=100, reference=credits[0].reference, kl_in_reward=1.2)
    steered = resumed(rollout(), judged(), ALL).columns
    torch.testing.assert_close(steered["kl_factor"], torch.full((4,), 1.2))
    torch.testing.assert_close(steered["advantages"], fixed(rollout(), judged(), ALL).columns["advantages"])


def test_the_critic_alone_learns_from_the_first_rollouts():
    credit = Credit(rule="gae", token_budget=100, warmup=1)
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
