"""Models behind rewards: similarity ranks true descriptions above false ones, by itself and in a run."""

from pathlib import Path

import pytest

from sightline import build
from sightline.build.labels import scored
from sightline.build.loading import load_trained, make_inputs
from sightline.build.scorers import open_scorers
from sightline.config.rl import RewardEntry
from sightline.journal import Journal
from sightline.models.inputs import Inputs
from sightline.records import Completion, Group, Message, Prompt
from sightline.registry import find
from sightline.rewards.contract import RewardContext
from sightline.world.prompts import task_prompts
from sightline.world.tasks import make_question
from tests.train.runs import tiny_recipe

CLIP = RewardEntry(name="clip", options={"model": "world:clip"})


def described(num: int) -> tuple[list[Group], Inputs]:
    prompts = task_prompts("describe", "test", num)
    other = [make_question("describe", "test", index + 500).answer for index in range(num)]
    own = [make_question("describe", "test", index).answer for index in range(num)]
    groups = [
        Group(prompt=prompt, completions=(Completion(text=true), Completion(text=false)))
        for prompt, true, false in zip(prompts, own, other, strict=True)
    ]
    return groups, make_inputs(load_trained("world:base")[0])


def said(entry: RewardEntry, readers: dict[str, Inputs], prompts: list[Prompt], answers: list) -> list:
    with open_scorers([entry], readers) as scorers:
        return scorers[entry.label or entry.name](prompts, answers)


def test_similarity_ranks_true_descriptions_above_those_of_other_scenes():
    groups, reader = described(20)
    found = scored(groups, CLIP, {group.prompt.id: reader for group in groups})
    better = [true.value > false.value for true, false in found if true is not None and false is not None]
    assert len(better) == 20
    assert sum(better) >= 19


def test_centre_and_spread_move_the_value_and_prompts_without_a_picture_have_none():
    groups, reader = described(2)
    blind = Prompt(id="blind", messages=(Message(role="user", content=("What is here?",)),))
    readers = {prompt.id: reader for prompt in (*(group.prompt for group in groups), blind)}
    prompts = [groups[0].prompt, blind, groups[1].prompt]
    answers = [groups[0].completions, (Completion(text="A star."),), groups[1].completions]
    moved = RewardEntry(name="clip", options={"model": "world:clip", "centre": 0.5, "spread": 0.1})
    plain, shifted = (said(entry, readers, prompts, answers) for entry in (CLIP, moved))
    assert plain[1] == shifted[1] == [None]
    for before, after in zip((*plain[0], *plain[2]), (*shifted[0], *shifted[2]), strict=True):
        assert before is not None
        assert after is not None
        assert after.value == pytest.approx((before.value - 0.5) / 0.1, abs=1e-5)


def test_a_policy_learns_from_similarity(world: Path, tmp_path: Path):
    recipe = tiny_recipe(
        world,
        tmp_path / "run",
        objective={"kind": "grpo"},
        rewards=[CLIP.model_dump()],
        rollout={"max_tokens": 5, "group_size": 3, "reward_workers": 1},
        train={"steps": 2, "samples": 0, "groups_per_step": 2, "token_budget": 400, "threads": 1},
    )
    rows = Journal.open(build.train(recipe, say=lambda line: None)).read_metrics()
    assert any("reward/clip" in row for row in rows)  # some of the prompts have no picture
    assert rows[0]["rollout/problems"] == 0


def test_a_judge_rates_answers_by_their_claims_and_is_asked_about_its_own_tasks_alone(tmp_path: Path):
    groups, reader = described(8)
    counted = Prompt(id="counted", messages=groups[0].prompt.messages, task="count")
    readers = {prompt.id: reader for prompt in (*(group.prompt for group in groups), counted)}
    options = {"recipe": "judges/rlaif_v_world", "overrides": [f"cache={tmp_path}", "judge.path=world:ceiling"]}
    entry = RewardEntry(name="judge", options=options, tasks=("describe",))
    prompts = [group.prompt for group in groups] + [counted]
    answers = [*(group.completions for group in groups), (Completion(text="7"),)]
    for _ in range(2):  # the second time from what was kept
        *found, last = said(entry, readers, prompts, answers)
        assert last == [None]
        margins = [true.value - false.value for true, false in found if true is not None and false is not None]
        assert len(margins) == 8
        assert sum(margin > 0 for margin in margins) >= 6
        assert all(margin >= 0 for margin in margins)


def test_mistakes_say_the_cure(tmp_path: Path):
    for entry, problem in (
        (RewardEntry(name="clip"), "clip: model is missing; give a CLIP or SigLIP model"),
        (RewardEntry(name="clip", options={"model": "world:clip", "measure": "cosin"}), "there is no measure 'cosin'"),
        (RewardEntry(name="judge"), "judge: recipe is missing; name a judge that ships"),
        (RewardEntry(name="judge", options={"recipe": "judges/pairwis"}), "did you mean judges/pairwise"),
    ):
        with pytest.raises(ValueError, match=problem), open_scorers([entry], {}):
            pass
    with pytest.raises(ValueError, match="clip is given by the model x, which is not here"):
        find("reward", "clip")(Completion(text=""), RewardContext.__new__(RewardContext), model="x")
