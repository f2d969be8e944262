"""The feed of rollouts: what becomes of sampled answers, and going on in the middle of one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens
from sightline.data.stream import Stream
from sightline.records import Completion, Message, Prompt
from sightline.rewards.contract import Judged
from sightline.train.roles import Score
from sightline.train.rollouts import RolloutFeed, RolloutPlan

PLAN = RolloutPlan(prompts=4, prompts_per_step=2, group_size=3, seed=1, num_steps=10)
PROMPTS = [Prompt(id=str(i), messages=(Message(role="user", content=(f"{i}",)),)) for i in range(10)]


def sample(prompts: Sequence[PromptTokens], *, num: int, seed: int) -> list[tuple[Completion, ...]]:
    """Answers of 1 to 5 tokens; the same seed and prompt give the same ones."""

    def one(prompt: PromptTokens, number: int) -> Completion:
        rng = np.random.default_rng([seed, int(prompt.id), number])
        ids = tuple(rng.integers(3, 9, size=int(rng.integers(1, 6))).tolist())
        return Completion(
            text=" ".join(map(str, ids)),
            token_ids=ids,
            behaviour_logprobs=tuple((-rng.random(len(ids))).tolist()),
            finish_reason="length" if len(ids) == 5 else "stop",
        )

    return [tuple(one(prompt, number) for number in range(num)) for prompt in prompts]


class CountingJudge:
    """Number of tokens as the reward; prompts 0 to `dull` - 1 always get 1. State: how many answers it has seen."""

    def __init__(self, dull: int = 0, unscorable: int | None = None) -> None:
        self.dull, self.unscorable, self.num_seen = dull, unscorable, 0
        self.progress: list[float] = []

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[tuple[Completion, ...]], *, progress: float
    ) -> list[tuple[Judged, ...]]:
        self.progress.append(progress)
        return [tuple(self.judge(p, c) for c in group) for p, group in zip(prompts, answers, strict=True)]

    def judge(self, prompt: Prompt, completion: Completion) -> Judged:
        size = len(completion.token_ids or ())
        if size == self.unscorable:
            return Judged(value=None, problem="raised ValueError: unreadable")
        return Judged(value=1.0 if int(prompt.id) < self.dull else float(size), parts={"size": float(size)})

    def observe(self, judged: Sequence[tuple[Judged, ...]]) -> None:
        self.num_seen += sum(map(len, judged))

    def facts(self, progress: float) -> dict[str, float]:
        return {"curriculum/threshold": progress}

    def state(self) -> dict[str, Any]:
        return {"num_seen": self.num_seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.num_seen = state["num_seen"]


class MeanCredit:
    """Reward less a moving mean. State: that mean."""

    def __init__(self) -> None:
        self.mean = 0.0

    def __call__(self, batch: Batch, judged: Sequence[Judged], scorable: Tensor) -> Batch:
        rewards = torch.as_tensor([one.value or 0.0 for one in judged])
        advantages = rewards - self.mean
        self.mean = 0.5 * self.mean + 0.5 * float(rewards[scorable].mean())
        return batch.with_columns(advantages=advantages)

    def facts(self) -> dict[str, float]:
        return {"kl/weight_factor": 1.5}

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]


def feed(plan: RolloutPlan = PLAN, judge: CountingJudge | None = None, score: Score | None = None) -> RolloutFeed:
    return RolloutFeed(
        PROMPTS,
        Stream(len(PROMPTS), seed=3, batch_size=plan.prompts, epochs=None),
        plan,
        read=lambda row: PromptTokens(id=PROMPTS[row].id, ids=(1, 2, row)),
        sample=sample,
        judge=judge or CountingJudge(),
        credit=MeanCredit(),
        score=score,
    )


def same(first: Batch, second: Batch) -> bool:
    assert [p.id for p in first.prompts] == [p.id for p in second.prompts]
    pairs = [(first.tokens, second.tokens), (first.mask, second.mask), (first.group, second.group)]
    pairs += [(first.columns[name], second.columns[name]) for name in {*first.columns, *second.columns}]
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_rollout_feeds_its_updates_and_then_a_new_one_is_sampled():
    judge = CountingJudge()
    batches = feed(judge=judge)
    first, second, third = (next(batches) for _ in range(3))
    assert [b.num_answers for b in (first, second, third)] == [6, 6, 6]
    assert len({p.id for b in (first, second) for p in b.prompts}) == 4
    assert judge.num_seen == 24
    assert judge.progress == [0.0, 0.2]


def test_answers_keep_their_tokens_and_the_logprobs_they_were_drawn_with():
    batches = feed()
    batch = next(batches)
    answers = [(a.row, c) for a in batches.last for c in a.completions][: batch.num_answers]
    for n, (row, completion) in enumerate(answers):
        size = len(completion.token_ids or ())
        assert batch.prompts[int(batch.group[n])].id == PROMPTS[row].id
        assert tuple(batch.tokens[n, :size].tolist()) == completion.token_ids
        expected = torch.as_tensor(completion.behaviour_logprobs)
        assert torch.equal(batch.columns["rollout_logprobs"][n, :size], expected)
        assert not batch.columns["rollout_logprobs"][n, size:].any()


def test_answers_are_scored_once_in_the_batches_of_the_first_pass():
    scored: list[Batch] = []

    def score(batch: Batch) -> dict[str, Tensor]:
        scored.append(batch)
        return {"behaviour_logprobs": torch.where(batch.mask, -float(len(scored)) - batch.tokens, 0.0)}

    plan = replace(PLAN, passes=2)
    batches = feed(plan, score=score)
    first, second, *again = (next(batches) for _ in range(plan.steps_per_rollout))
    assert len(scored) == 2
    for number, (mine, given) in enumerate(zip((first, second), scored, strict=True), 1):
        assert [p.id for p in mine.prompts] == [p.id for p in given.prompts]
        assert torch.equal(mine.tokens, given.tokens)
        wanted = torch.where(mine.mask, -float(number) - mine.tokens, 0.0)
        assert torch.equal(mine.columns["behaviour_logprobs"], wanted)
    assert sum(float(batch.columns["behaviour_logprobs"].sum()) for batch in again) == pytest.approx(
        sum(float(batch.columns["behaviour_logprobs"].sum()) for batch in (first, second))
    )
    next(batches)
    assert len(scored) == 4


def test_every_pass_sees_every_group_once_in_another_order():
    plan = replace(PLAN, passes=3)
    assert plan.steps_per_rollout == 6
    batches = feed(plan)
    passes = [[p.id for _ in range(2) for p in next(batches).prompts] for _ in range(3)]
    assert len({tuple(sorted(order)) for order in passes}) == 1
    assert len({tuple(order) for order in passes}) > 1


@pytest.mark.parametrize("num_before", range(1, 7))
def test_going_on_from_any_update_is_bit_for_bit_going_on(num_before: int):
    plan = replace(PLAN, passes=2, max_refills=1)
    first_judge = CountingJudge(dull=5)
    before = feed(plan, first_judge)
    for _ in range(num_before):
        next(before)
    state, tensors = json.loads(json.dumps(before.state())), before.tensors()
    second_judge = CountingJudge(dull=5)
    after = feed(plan, second_judge)
    after.restore(state, tensors)
    assert second_judge.num_seen == first_judge.num_seen
    assert all(same(next(before), next(after)) for _ in range(9))
    assert before.metrics().keys() == after.metrics().keys()


def test_an_answer_without_a_reward_weighs_nothing_and_is_counted():
    batches = feed(judge=CountingJudge(unscorable=2))
    batch = next(batches)
    answers = [c for a in batches.last for c in a.completions]
    sizes = torch.as_tensor([len(c.token_ids or ()) for c in answers])
    assert torch.equal(batch.columns["weight"], (sizes != 2).float()[: batch.num_answers])
    facts = batches.metrics()
    assert facts["rollout/excluded"] == pytest.approx(float((sizes == 2).float().mean()))
    assert facts["rollout/problems"] == pytest.approx(float((sizes == 2).float().mean()))


def test_answers_that_were_cut_can_be_left_out():
    batches = feed(replace(PLAN, drop_cut=True))
    batch = next(batches)
    assert torch.equal(batch.columns["weight"] == 0, batch.lengths == 5)


def test_groups_without_signal_are_sampled_anew_within_the_bound():
    plain, refilled = feed(judge=CountingJudge(dull=5)), feed(replace(PLAN, max_refills=3), CountingJudge(dull=5))
    next(plain), next(refilled)
    assert plain.metrics()["rollout/prompts_sampled"] == 4
    assert not all(answers.has_signal for answers in plain.last)
    assert refilled.metrics()["rollout/prompts_sampled"] > 4
    assert all(answers.has_signal for answers in refilled.last)
    hopeless = feed(replace(PLAN, max_refills=2), CountingJudge(dull=10))
    assert next(hopeless).num_answers == 6
    assert hopeless.metrics()["rollout/prompts_sampled"] == 12
    assert hopeless.metrics()["rollout/without_signal"] == 1.0


def test_groups_outside_the_difficulty_bounds_weigh_nothing():
    batches = feed(replace(PLAN, difficulty=(2.5, 3.5)))
    batch = next(batches)
    for place, answers in enumerate(batches.last[:2]):
        inside = 2.5 <= sum(answers.values) / len(answers.values) <= 3.5
        assert bool(batch.columns["weight"][batch.group == place].all()) == inside


def test_facts_of_a_rollout_are_told_once():
    batches = feed()
    next(batches)
    facts = batches.metrics()
    values = [v for answers in batches.last for v in answers.values]
    assert facts["reward/mean"] == pytest.approx(np.mean(values))
    assert facts["reward/size"] == pytest.approx(np.mean(values))
    assert 0 < facts["rollout/distinct"] <= 1
    next(batches)
    assert batches.metrics() == {}


def test_a_group_of_one_answer_is_no_group_without_signal():
    batches = feed(replace(PLAN, group_size=1))
    next(batches)
    assert batches.metrics()["rollout/without_signal"] == 0
