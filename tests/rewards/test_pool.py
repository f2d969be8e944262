"""Rewards beside the model: order, failures of every kind, and what the policy makes of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from sightline.records import Completion
from sightline.rewards.contract import Judged, RewardContext
from sightline.rewards.pool import Call, RewardFailed, RewardPool

FACTORY = "tests.rewards.pool_judges:length_judge"


def calls(*texts: str) -> list[Call]:
    return [Call(completion=Completion(text=text), context=RewardContext(truth={})) for text in texts]


@pytest.fixture(scope="module")
def pool() -> Iterator[RewardPool]:
    found = RewardPool(FACTORY, {"scale": 2.0}, num_workers=2, timeout=1.0)
    yield found
    found.close()


def test_answers_come_back_in_order(pool: RewardPool):
    texts = ["a" * n for n in range(1, 40)]
    assert [judged.value for judged in pool(calls(*texts))] == [2.0 * n for n in range(1, 40)]
    assert pool([]) == []


def test_no_opinion_leaves_the_answer_out_without_a_problem(pool: RewardPool):
    assert pool(calls("none", "ab")) == [Judged(value=None), Judged(value=4.0, parts={"letters": 2.0})]


def test_what_is_placed_comes_back(pool: RewardPool):
    placed = ((2, 0.5), (4, -1.5))
    assert pool(calls("placed")) == [Judged(value=12.0, parts={"letters": 6.0}, placed=placed)]
    assert pool(calls("misplaced"))[0].problem is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("raise", "raised KeyError: 'objects'"),
        ("nan", "the reward's value is nan"),
        ("die", "ended its process"),
        ("hang", "took longer than 1 seconds"),
    ],
)
def test_a_failing_reward_costs_its_own_answer_alone(pool: RewardPool, text: str, problem: str):
    first, bad, *others = pool(calls("a", text, "abc", "ab", "abcd"))
    assert (first.value, [judged.value for judged in others]) == (2.0, [6.0, 4.0, 8.0])
    assert bad.value is None
    assert bad.problem is not None
    assert problem in bad.problem


@pytest.mark.parametrize(("on_error", "value"), [("exclude", None), ("zero", 0.0)])
def test_the_policy_decides_what_a_failure_is_worth_and_it_is_reported(on_error: Any, value: float | None):
    seen: list[tuple[str, str]] = []
    pool = RewardPool(
        FACTORY, {}, num_workers=0, on_error=on_error, report=lambda call, why: seen.append((call.completion.text, why))
    )
    assert [judged.value for judged in pool(calls("a", "raise"))] == [1.0, value]
    assert seen == [("raise", "raised KeyError: 'objects' (pool_judges.py, line 17)")]


def test_a_run_may_stop_at_a_failure_and_says_on_which_answer():
    pool = RewardPool(FACTORY, {}, num_workers=0, on_error="stop")
    with pytest.raises(
        RewardFailed,
        match=r"raised KeyError: 'objects' \(pool_judges.py, line 17\) on the answer 'raise'; mend the reward",
    ):
        pool(calls("a", "raise"))


def test_rewards_that_cannot_be_loaded_are_refused_at_the_start():
    with pytest.raises(ValueError, match="rewards: ImportError: no module named mended_later"):
        RewardPool("tests.rewards.pool_judges:broken_judge", {}, num_workers=1)
