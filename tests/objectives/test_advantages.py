import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from sightline.objectives.advantages import (
    ADVANTAGES,
    Rewarded,
    advantage,
    dr_grpo,
    gdpo,
    group_mean_baseline,
    grpo,
    moving_baseline,
    opo,
    place_rewards,
    reinforce,
    reinforce_pp,
    reinforce_pp_baseline,
    rloo,
    token_returns,
    token_rewards,
    whiten,
)

GROUP = torch.tensor([0, 0, 0, 1, 1])
BY_GROUP = ("grpo", "dr_grpo", "rloo", "reinforce_pp_baseline", "gdpo", "opo")
NAN = math.nan


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


REWARDS = values(1, 0, 0.5, 3, 1)


def close(found: torch.Tensor, *wanted: float) -> None:
    torch.testing.assert_close(found, values(*wanted), rtol=1e-6, atol=1e-9)


def rewarded(rewards: torch.Tensor, group: torch.Tensor, scorable: torch.Tensor | None = None) -> Rewarded:
    """Rewards with all that some rule asks for; the parts are the reward and a third of it."""
    return Rewarded(
        rewards=rewards,
        group=group,
        scorable=scorable,
        lengths=torch.arange(1, len(rewards) + 1),
        parts=torch.stack([rewards, rewards / 3], 1),
    )


def test_group_means_by_hand():
    close(group_mean_baseline(REWARDS, GROUP), 0.5, 0.5, 0.5, 2, 2)
    close(group_mean_baseline(REWARDS, GROUP, weights=values(1, 1, 2, 3, 1)), 0.5, 0.5, 0.5, 2.5, 2.5)


def test_grpo_by_hand():
    # Unbiased standard deviations: 0.5 and sqrt(2).
    spread = math.sqrt(2) + 1e-4
    close(grpo(REWARDS, GROUP), 0.5 / 0.5001, -0.5 / 0.5001, 0, 1 / spread, -1 / spread)
    biased = math.sqrt(0.5 / 3)
    close(grpo(REWARDS, GROUP, eps=0.0, unbiased=False), 0.5 / biased, -0.5 / biased, 0, 1, -1)


def test_dr_grpo_by_hand():
    close(dr_grpo(REWARDS, GROUP), 0.5, -0.5, 0, 1, -1)


def test_rloo_by_hand():
    close(rloo(REWARDS, GROUP), 1 - 0.25, 0 - 0.75, 0, 3 - 1, 1 - 3)


def test_opo_by_hand():
    # Baselines (1 * 3 + 0 * 1 + 0.5 * 4) / 8 and (3 * 1 + 1 * 3) / 4.
    close(opo(REWARDS, GROUP, torch.tensor([3, 1, 4, 1, 3])), 0.375, -0.625, -0.125, 1.5, -0.5)


def test_opo_with_equal_lengths_is_dr_grpo():
    torch.testing.assert_close(opo(REWARDS, GROUP, torch.full((5,), 7)), dr_grpo(REWARDS, GROUP))


def test_reinforce_by_hand():
    close(reinforce(REWARDS, baseline=0.75), 0.25, -0.75, -0.25, 2.25, 0.25)


def test_the_moving_baseline_begins_with_a_mean_and_then_moves():
    assert moving_baseline(None, values(1, 3)) == 2
    assert moving_baseline(2.0, values(4, 8), decay=0.75) == pytest.approx(0.75 * 2 + 0.25 * 6)
    nobody = torch.tensor([False, False])
    assert moving_baseline(2.0, values(NAN, NAN), scorable=nobody) == 2
    assert moving_baseline(None, values(NAN, NAN), scorable=nobody) is None


def test_reinforce_pp_by_hand():
    # Mean 1.1; squared deviations 0.01, 1.21, 0.36, 3.61, 0.01 over 4.
    spread = math.sqrt(5.2 / 4 + 1e-8)
    close(reinforce_pp(REWARDS), *((r - 1.1) / spread for r in REWARDS.tolist()))


def test_reinforce_pp_with_a_group_baseline_by_hand():
    spread = math.sqrt((0.25 + 0.25 + 1 + 1) / 4 + 1e-8)
    close(reinforce_pp_baseline(REWARDS, GROUP), 0.5 / spread, -0.5 / spread, 0, 1 / spread, -1 / spread)


def test_gdpo_by_hand():
    # First reward 1, -1 in its group of two after normalisation (over sqrt 2), the second likewise the other way.
    rewards = torch.tensor([[1.0, 0], [0, 0], [0, 100], [0, 0]], dtype=torch.float64)
    group, unit = torch.tensor([0, 0, 1, 1]), 1 / math.sqrt(2)
    spread = math.sqrt(4 * unit**2 / 3)
    close(gdpo(rewards, group, eps=1e-9), unit / spread, -unit / spread, unit / spread, -unit / spread)
    halved = gdpo(rewards, group, weights=[1.0, 0.5], eps=1e-9)
    assert float(halved[0] / halved[2]) == pytest.approx(2)


def test_gdpo_keeps_apart_what_a_sum_makes_equal():
    # (0, 2) and (1, 1) against (0, 0): the sums are equal, the normalised rewards are not.
    rewards = torch.tensor([[0.0, 2], [1, 1], [0, 0], [0, 0]], dtype=torch.float64)
    group = torch.zeros(4, dtype=torch.long)
    summed, apart = grpo(rewards.sum(1), group), gdpo(rewards, group)
    assert float(summed[0]) == float(summed[1])
    assert float(apart[1] - apart[0]) > 0.1


def test_gdpo_wants_a_weight_for_each_reward():
    with pytest.raises(ValueError, match="2 weights for 3 rewards"):
        gdpo(torch.zeros(2, 3), torch.tensor([0, 0]), weights=[1.0, 2.0])


@pytest.mark.parametrize("name", BY_GROUP)
@settings(max_examples=30, deadline=None)
@given(
    reward=st.floats(-1e3, 1e3, width=32),
    size=st.integers(1, 9),
    others=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=4),
)
def test_groups_of_equal_rewards_get_exactly_zero(name: str, reward: float, size: int, others: list[float]):
    rewards = torch.tensor([reward] * size + others, dtype=torch.float32)
    group = torch.tensor([0] * size + [1] * len(others))
    found = advantage(name)(rewarded(rewards, group))
    assert found[:size].tolist() == [0.0] * size
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("name", ["reinforce", "reinforce_pp"])
def test_a_batch_of_equal_rewards_gets_zero(name: str):
    found = advantage(name)(rewarded(torch.full((7,), 0.1), torch.zeros(7, dtype=torch.long)))
    assert found.tolist() == pytest.approx([0.0] * 7, abs=1e-7)
    assert whiten(torch.full((7,), 0.1), torch.ones(7, dtype=torch.bool)).tolist() == [0.0] * 7


@pytest.mark.parametrize("name", ADVANTAGES)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_answer_that_cannot_be_scored_moves_nothing(name: str, place: int):
    rewards, group = REWARDS, torch.tensor([0, 0, 1, 1, 1])
    lengths = torch.tensor([3, 1, 2, 5, 1])
    parts = torch.stack([rewards, rewards.square()], 1)

    def insert(values: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
        return torch.cat([values[:place], extra.to(values), values[place:]])

    wanted = advantage(name)(Rewarded(rewards=rewards, group=group, lengths=lengths, parts=parts))
    found = advantage(name)(
        Rewarded(
            rewards=insert(rewards, values(NAN)),
            group=insert(group, group[place : place + 1]),
            scorable=insert(torch.ones(5, dtype=torch.bool), torch.tensor([False])),
            lengths=insert(lengths, torch.tensor([1000])),
            parts=insert(parts, torch.full((1, 2), NAN)),
        )
    )
    torch.testing.assert_close(found, insert(wanted, values(0)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_a_group_without_any_reward_gets_zero_and_an_empty_step_nothing(name: str):
    nobody = torch.tensor([False, False, True, True])
    given = rewarded(values(NAN, NAN, 1, 0), torch.tensor([0, 0, 1, 1]), nobody)
    found = advantage(name)(given)
    assert found[:2].tolist() == [0.0, 0.0]
    assert bool(found.isfinite().all())
    nothing = advantage(name)(rewarded(values(), torch.zeros(0, dtype=torch.long)))
    assert nothing.shape == (0,)


@pytest.mark.parametrize("name", BY_GROUP)
def test_group_ids_may_have_gaps(name: str):
    found = advantage(name)(rewarded(REWARDS, GROUP * 4 + 3))
    torch.testing.assert_close(found, advantage(name)(rewarded(REWARDS, GROUP)))


def test_an_unknown_advantage_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean rloo"):
        advantage("rlo")


@pytest.mark.parametrize(("name", "field"), [("gdpo", "parts"), ("opo", "lengths")])
def test_what_a_rule_lacks_is_named(name: str, field: str):
    with pytest.raises(ValueError, match=rf"{name}.*Rewarded\.{field}"):
        advantage(name)(Rewarded(rewards=REWARDS, group=GROUP))


def test_whitened_values_by_hand():
    mask = torch.tensor([[True, True], [True, False]])
    found = whiten(torch.tensor([[1.0, 2.0], [3.0, NAN]], dtype=torch.float64), mask, eps=0.0)
    assert found.tolist() == [[-1, 0], [1, 0]]
    kept = whiten(torch.tensor([[3.0, 6.0], [9.0, NAN]], dtype=torch.float64), mask, shift_mean=False, eps=0.0)
    assert kept.tolist() == [[5, 6], [7, 0]]


def test_whitening_little_or_nothing_stays_finite():
    assert whiten(torch.tensor([4.0, 5.0]), torch.tensor([True, False])).tolist() == [0, 0]
    assert whiten(torch.tensor([4.0, 5.0]), torch.tensor([False, False])).tolist() == [0, 0]


def test_the_reward_lies_on_the_last_scored_token_less_the_kl_of_each():
    mask = torch.tensor([[True, True, True], [True, False, False], [True, False, True]])
    kl = torch.tensor([[1.0, 2, 3], [4, NAN, NAN], [5, NAN, 6]], dtype=torch.float64)
    rewards = values(10, 20, 30)
    assert token_rewards(rewards, mask).tolist() == [[0, 0, 10], [20, 0, 0], [0, 0, 30]]
    found = token_rewards(rewards, mask, kl=kl, kl_weight=0.5)
    assert found.tolist() == [[-0.5, -1, 8.5], [18, 0, 0], [-2.5, 0, 27]]


def test_rewards_of_spans_lie_on_their_ends_and_add_up():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = place_rewards(values(1, 2, 4), torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]), mask)
    assert found.tolist() == [[3, 0, 0], [0, 4, 0]]
    with pytest.raises(ValueError, match="reward 1 lies on token 2 of answer 1"):
        place_rewards(values(1, 2), torch.tensor([0, 1]), torch.tensor([0, 2]), mask)


def test_returns_of_tokens_by_hand():
    mask = torch.tensor([[True, True, True], [True, False, True]])
    rewards = torch.tensor([[1.0, 2, 4], [1, 100, 4]], dtype=torch.float64)
    assert token_returns(rewards, mask).tolist() == [[7, 6, 4], [5, 0, 4]]
    assert token_returns(rewards, mask, discount=0.5).tolist() == [[3, 4, 4], [3, 0, 4]]


def test_reinforce_pp_per_token_is_its_whitened_returns():
    mask = torch.tensor([[True, True], [True, False]])
    kl = torch.tensor([[0.1, 0.2], [0.3, 0.0]], dtype=torch.float64)
    returns = token_returns(token_rewards(values(1, 0), mask, kl=kl, kl_weight=1.0), mask)
    close(returns.flatten(), 0.7, 0.8, -0.3, 0)
    found = whiten(returns, mask, eps=0.0)[mask]
    close(torch.stack([found.mean(), found.std()]), 0, 1)


def test_wrong_shapes_are_refused_where_they_enter():
    with pytest.raises(TypeCheckError):
        grpo(REWARDS, GROUP[:3])
    with pytest.raises(TypeCheckError):
        rloo(REWARDS, GROUP, scorable=torch.ones(5))
