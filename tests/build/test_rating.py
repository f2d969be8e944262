"""Reward models from end to end: trained on comparisons, calibrated, and used as a reward and again from disk."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.build.loading import load_trained, make_inputs
from sightline.build.reward_models import load_reward_model
from sightline.build.scorers import open_scorers
from sightline.config import ConfigError
from sightline.config.rl import RewardEntry
from sightline.data.files import read_groups, write_groups
from sightline.journal import Journal
from sightline.models.reference import prompt_key
from sightline.records import Completion, Pair, Rank, RecordError
from tests.train.runs import assert_same_run, tiny_recipe

QUICK = {"kind": "ranking", "members": 2, "member_hidden": 4, "member_epochs": 3}
SHORT = {"steps": 4, "save_every": 2, "samples": 0, "groups_per_step": 3, "token_budget": 400, "threads": 1}


def rated(world: Path, out: Path, **blocks: Any) -> Path:
    data = {"validation_files": [str(world / "validation.jsonl")]} | blocks.pop("data", {})
    objective = QUICK | blocks.pop("objective", {})
    recipe = tiny_recipe(world, out, objective=objective, data=data, train=SHORT, **blocks)
    return build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)


@pytest.fixture(scope="module")
def reward_model(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rated(world, tmp_path_factory.mktemp("rm") / "run")


def test_a_run_ends_with_a_calibrated_ensemble(reward_model: Path):
    facts = json.loads((reward_model / "scorer" / "scorer.json").read_text())
    assert facts["members"] == 2
    assert facts["num_comparisons"] == 4
    assert 0 <= facts["accuracy"]["estimate"] <= 1
    assert facts["temperature"] > 0
    assert 0 <= facts["lapse"] < 0.5
    assert set(facts["by_aspect"]) == {"overall"}
    rows = Journal.open(reward_model).read_updates()
    assert {"loss/ranking", "loss/centring", "rating/accuracy", "rating/margin"} <= set(rows[0])
    assert "validation/rating/accuracy" in rows[-1]
    assert "Reward model" in (reward_model / "report.html").read_text()


def test_the_same_seed_gives_the_same_reward_model(reward_model: Path, world: Path, tmp_path: Path):
    again = rated(world, tmp_path / "run")
    assert_same_run(again, reward_model)
    for name in ("members.safetensors", "scorer.json"):
        assert (again / "scorer" / name).read_bytes() == (reward_model / "scorer" / name).read_bytes()


def test_it_rates_answers_with_mean_spread_and_penalty(reward_model: Path, world: Path):
    [(_, group), *_] = list(read_groups(world / "train.jsonl"))
    readers = {group.prompt.id: make_inputs(load_reward_model(str(reward_model)).loaded, root=world)}
    answers = [(*group.completions, Completion(text=""))]
    found = []
    for penalty in (0.0, 2.0):
        entry = RewardEntry(name="learned", options={"run": str(reward_model), "penalty": penalty})
        with open_scorers([entry], readers) as scorers:
            found += scorers["learned"]([group.prompt], answers)
    for plain, less in zip(*found, strict=True):
        assert plain is not None
        assert less is not None
        assert plain.value == pytest.approx(plain.parts["mean"])
        assert less.value == pytest.approx(plain.parts["mean"] - 2 * plain.parts["spread"])


def test_a_policy_learns_from_it_and_its_parts_are_logged(reward_model: Path, world: Path, tmp_path: Path):
    recipe = tiny_recipe(
        world,
        tmp_path / "run",
        objective={"kind": "grpo"},
        rewards=[{"name": "learned", "options": {"run": str(reward_model)}}, {"name": "length", "weight": 0.1}],
        rollout={"max_tokens": 5, "group_size": 3, "reward_workers": 1},
        reference={"kind": "copy"},
        train=SHORT,
    )
    rows = Journal.open(build.train(recipe, say=lambda line: None)).read_updates()
    assert {"reward/learned", "reward/learned/mean", "reward/learned/spread", "kl/reference"} <= set(rows[0])
    assert rows[0]["rollout/problems"] == 0


@pytest.mark.parametrize("how", ["full", "lora"])
def test_own_answers_are_those_of_the_start_in_training_and_at_work(world: Path, tmp_path: Path, how: str):
    told: list[str] = []
    objective = QUICK | {"own_answer": True, "own_answer_tokens": 6, "likelihood": True}
    recipe = tiny_recipe(
        world,
        tmp_path / "run",
        objective=objective,
        model={"train": how},
        data={"validation_files": [str(world / "validation.jsonl")]},
        train=SHORT,
    )
    run = build.train(recipe, say=told.append)
    kept = json.loads((run / "own_answers.json").read_text())
    start, _ = load_trained(str(world / "model"))
    inputs = make_inputs(start, root=world)
    groups = [group for name in ("train", "validation") for _, group in read_groups(world / f"{name}.jsonl")]
    assert kept.keys() == {prompt_key(inputs.prompt(group.prompt)) for group in groups}
    assert f"own answers: {len(kept)} made" in "\n".join(told)
    build.train(recipe, say=told.append)  # a run that goes on does not ask again
    assert "own answers: 0 made" in "\n".join(told)
    model = load_reward_model(str(run))
    assert model.facts["with_agreement"]
    assert (model.rater.policy.own.speaker is model.rater.policy) == (how == "lora")
    model.rater.rate([inputs.prompt(group.prompt) for group in groups], [[(5, 6)] for _ in groups])
    assert model.rater.policy.own.said == kept


def test_attributes_margins_and_ties_are_learned(world: Path, tmp_path: Path):
    groups = [group for _, group in read_groups(world / "train.jsonl")]
    aspects = [
        replace(
            group,
            signals=(
                Pair(chosen=0, rejected=1, margin=0.5, aspect="faithfulness"),
                Pair(chosen=0, rejected=1, tie=True, aspect="coverage"),
                Rank(ranks=(1, 0)),
            ),
        )
        for group in groups
    ]
    write_groups(tmp_path / "aspects.jsonl", aspects)
    files = {name: [str(tmp_path / "aspects.jsonl")] for name in ("files", "validation_files")}
    objective = {"attributes": ["faithfulness", "coverage"], "margin_weight": 0.5, "length_weight": 0.1}
    run = rated(world, tmp_path / "run", data={"root": str(world), **files}, objective=objective)
    facts = json.loads((run / "scorer" / "scorer.json").read_text())
    assert set(facts["by_aspect"]) == {"overall", "faithfulness"}  # ties are not ranked right or wrong
    assert load_reward_model(str(run)).attributes == ("faithfulness", "coverage")
    assert "loss/length" in Journal.open(run).read_updates()[0]
    with pytest.raises(RecordError, match="compare 'coverage', and the reward model rates overall, faithfulness"):
        rated(world, tmp_path / "less", data={"root": str(world), **files}, objective={"attributes": ["faithfulness"]})


def test_mistakes_say_the_cure(world: Path, reward_model: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data.validation_files: are missing, and ratings are calibrated"):
        tiny_recipe(world, tmp_path / "x", objective=QUICK)
    data = {"validation_files": [str(world / "validation.jsonl")]}
    for given, mistake in (
        ({"phrase_pattern": "red"}, "phrase_pattern goes with own_answer: true"),
        ({"phrase_pattern": "(red", "own_answer": True}, "phrase_pattern is no regular expression"),
        ({"phrase_pattern": "(red) (star)", "own_answer": True}, "phrase_pattern has several groups"),
    ):
        with pytest.raises(ConfigError, match=mistake):
            tiny_recipe(world, tmp_path / "x", objective=QUICK | given, data=data)
    with pytest.raises(ConfigError, match="rewards: are not read by ranking"):
        tiny_recipe(world, tmp_path / "x", objective=QUICK, data=data, rewards=[{"name": "length"}])
    with pytest.raises(ValueError, match="is a model, not a reward model; name the folder of a run"):
        load_reward_model(str(world / "model"))
    old = tmp_path / "old"
    shutil.copytree(reward_model, old)
    facts = json.loads((old / "scorer" / "scorer.json").read_text())
    del facts["with_agreement"]
    (old / "scorer" / "scorer.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"was made by an older Sightline, .*; train it anew"):
        load_reward_model(str(old))
    with pytest.raises(ValueError, match="learned: run is missing"), open_scorers([RewardEntry(name="learned")], {}):
        pass
