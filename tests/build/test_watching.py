"""Planted failures on real small runs: each is caught, and what its sentence tells the user to keep is still there."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.build.held_out import Form, measure_for
from sightline.config import ConfigError
from sightline.data.files import write_groups
from sightline.journal import Journal, RunFailed
from sightline.records import Completion, Group, Message, Pair, Prompt
from sightline.signals import Rank
from sightline.world.tasks import TASKS, make_question
from tests.tiny import tiny_groups
from tests.train.runs import tiny_recipe

QUICK = {"groups_per_step": 8, "samples": 0, "token_budget": 2000, "check_first_batch": False}


def run(world: Path, out: Path, groups: Sequence[Group], **blocks: Any) -> tuple[Journal, list[str]]:
    write_groups(out.with_suffix(".jsonl"), groups)
    said: list[str] = []
    blocks["data"] = {"files": [str(out.with_suffix(".jsonl"))]} | blocks.get("data", {})
    recipe = tiny_recipe(world, out, **blocks)
    return Journal.open(build.train(recipe, say=said.append)), said


def flipped(groups: Sequence[Group], seed: int) -> list[Group]:
    """The groups with labels that say nothing: a coin decides who wins."""
    rng = random.Random(seed)
    coins = [(0, 1) if rng.random() < 0.5 else (1, 0) for _ in groups]
    pairs = [Pair(chosen=chosen, rejected=rejected) for chosen, rejected in coins]
    return [replace(g, completions=g.completions[:2], signals=(pair,)) for g, pair in zip(groups, pairs, strict=True)]


def steps_of(journal: Journal) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in journal.checkpoints()]


@pytest.fixture(scope="module")
def learned_by_heart(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Journal, list[str]]:
    """DPO on random labels, with validation rows whose labels are random too."""
    folder = tmp_path_factory.mktemp("heart")
    write_groups(folder / "validation.jsonl", flipped(tiny_groups(24, seed=500), 1))
    return run(
        world,
        folder / "run",
        flipped(tiny_groups(24), 0),
        data={"validation_files": [str(folder / "validation.jsonl")]},
        train=QUICK | {"steps": 60, "save_every": 20},
        optim={"learning_rate": 3e-3, "schedule": "constant"},
        monitors={"overfit": 0.05, "accuracy_gap": 0.35, "grad_norm_spike": None},
    )


def test_random_labels_end_the_run_early_and_the_best_checkpoint_is_kept(learned_by_heart: tuple[Journal, list[str]]):
    journal, said = learned_by_heart
    status = journal.read_status()
    assert status["state"] == "done"
    assert status["step"] < 60
    [alarm] = [row for row in journal.read_alarms() if row["signal"] in ("overfit", "accuracy_gap")][:1]
    assert alarm["kept"] in steps_of(journal)
    assert f"@{alarm['kept']} is the best by the held-out measure" in alarm["sentence"]
    assert any(line.startswith("stopped early:") for line in said)
    losses = {
        row["step"]: row["validation/loss/total"]
        for row in journal.read_metrics()
        if row["step"] and "validation/loss/total" in row
    }
    assert alarm["kept"] == min(losses, key=losses.__getitem__)


def test_a_run_that_ended_early_stays_ended(learned_by_heart: tuple[Journal, list[str]]):
    journal, _ = learned_by_heart
    before = journal.read_metrics()
    build.resume(journal.folder, say=lambda line: None)
    assert journal.read_metrics() == before
    assert journal.read_status()["state"] == "done"


def test_identical_pairs_are_refused_unless_the_bound_is_raised(world: Path, tmp_path: Path):
    [one] = tiny_groups(1)
    copies = [replace(one, prompt=replace(one.prompt, id=str(number))) for number in range(24)]
    with pytest.raises(ValueError, match=r"96% of the rows repeat an earlier one .*23 word for word.*train\.epochs"):
        run(world, tmp_path / "copies", copies, train=QUICK | {"steps": 2})
    bounds = {"duplicates": 1.0, "repeated_prompt": 1.0}
    journal, said = run(world, tmp_path / "wanted", copies, train=QUICK | {"steps": 2}, monitors=bounds)
    assert journal.read_status()["state"] == "done"
    assert any("23 of 24 rows repeat an earlier row" in line for line in said)
    _, said = run(world, tmp_path / "warned", copies, train=QUICK | {"steps": 2}, monitors={"action": "warn"})
    assert any(line.startswith("warning: data.files: 96%") for line in said)


def test_a_policy_that_leaves_its_start_is_stopped_without_a_reference(world: Path, tmp_path: Path):
    with pytest.raises(RunFailed, match=r"kl: kl/start is .*, above 0.01, since update"):
        run(
            world,
            tmp_path / "run",
            tiny_groups(24),
            objective={"kind": "grpo"},
            rewards=[{"name": "tests.train.rl_rewards:small_tokens"}],
            rollout={"max_tokens": 5, "group_size": 4, "reward_workers": 0},
            train=QUICK | {"steps": 30},
            optim={"learning_rate": 1e-2, "schedule": "constant"},
            monitors={"kl": 0.01},
        )


# Which measure fits a truth


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("detect", "box_f1"),
        ("refer", "rec_iou"),
        ("count", "count"),
        ("exist", "yes_no"),
        ("describe", "hallucination"),
        ("read", "number"),
        ("refuse", "refusal"),
    ],
)
def test_every_task_of_the_world_has_a_measure_by_its_truth(task: str, name: str):
    assert task in TASKS
    prompt = Prompt(id="1", messages=(), task=task, truth=make_question(task, "train", 3).truth)
    entry = measure_for(prompt, Form(space="seen", span="whole", boxes=False))
    assert entry is not None
    assert entry["name"] == name


@pytest.mark.parametrize(
    ("truth", "boxes", "name"),
    [
        ({}, True, None),
        ({"objects": []}, True, "box_f1"),
        ({"objects": []}, False, None),
        ({"count": 3, "objects": []}, True, "count"),
        ({"answer": "A"}, False, None),
        ({"answer": "A", "options": ["x", "y"]}, False, "choice"),
    ],
)
def test_without_a_task_the_truth_says_what_fits(truth: dict[str, Any], boxes: bool, name: str | None):
    entry = measure_for(Prompt(id="1", messages=(), truth=truth), Form(space="seen", span="whole", boxes=boxes))
    assert (None if entry is None else entry["name"]) == name


# Aspects


def compared(*signals: Pair | Rank) -> Group:
    prompt = Prompt(id="1", messages=(Message(role="user", content=("What is here?",)),))
    return Group(prompt=prompt, completions=(Completion(text="A."), Completion(text="B.")), signals=signals)


def test_a_row_of_several_aspects_needs_a_choice(world: Path, tmp_path: Path):
    helpful, safe = Pair(chosen=0, rejected=1, aspect="helpfulness"), Pair(chosen=1, rejected=0, aspect="safety")
    rows = [compared(helpful, safe)]
    with pytest.raises(
        ValueError, match=r"compare helpfulness, safety, which may contradict .* choose one with data.aspect"
    ):
        run(world, tmp_path / "mixed", rows, train=QUICK | {"steps": 1})
    journal, _ = run(world, tmp_path / "safe", rows, train=QUICK | {"steps": 1}, data={"aspect": "safety"})
    assert journal.read_status()["state"] == "done"
    with pytest.raises(ValueError, match=r"compare helpfulness, safety, and data.aspect is 'honesty'"):
        run(world, tmp_path / "wrong", rows, train=QUICK | {"steps": 1}, data={"aspect": "honesty"})


def test_an_aspect_is_refused_where_nothing_reads_it(world: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.aspect: is read by dpo and sft on data alone"):
        tiny_recipe(
            world,
            tmp_path / "run",
            objective={"kind": "grpo"},
            data={"aspect": "safety"},
            rewards=[{"name": "length"}],
        )
