"""What a run keeps to be read: answers from before training, rollouts with rewards, pictures, and what bounds them."""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sightline import build
from sightline.build.shown import MOST_ROLLOUTS, PICTURE_BYTES, TRUTH_LENGTH, mean_advantages, shown_rollouts
from sightline.config import Recipe
from sightline.data.files import write_groups
from sightline.journal import Journal
from sightline.records import Group, Image, Message, Prompt
from tests.train.runs import tiny_recipe

SAMPLED = {"max_tokens": 5, "group_size": 3, "reward_workers": 0, "prompts": 6, "passes": 2}
VARIED = [{"name": "tests.train.rl_rewards:small_tokens"}]


class Killed(Exception):
    """Stands for a kill."""


def quietly(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
    pass


def rewarded(world: Path, out: Path, *, samples: int = 2, kind: str = "grpo") -> Recipe:
    train = {"steps": 12, "groups_per_step": 3, "save_every": 4, "samples": 1, "token_budget": 400}
    return tiny_recipe(
        world, out, objective={"kind": kind}, rewards=VARIED, rollout=SAMPLED | {"samples": samples}, train=train
    )


def run(recipe: Recipe) -> Journal:
    return Journal.open(build.train(recipe, say=lambda line: None, show=quietly))


def test_groups_of_a_rollout_are_kept_with_rewards_advantages_and_pictures(world: Path, tmp_path: Path):
    journal = run(rewarded(world, tmp_path / "run"))
    rows = journal.read_rollouts()
    assert [(row["step"], row["rollout"]) for row in rows] == [
        (s, r) for s, r in ((1, 1), (5, 2), (9, 3)) for _ in "ab"
    ]
    for row in rows:
        assert len(row["answers"]) == 3
        values = np.array([answer["reward"] for answer in row["answers"]])
        advantages = [answer["advantage"] for answer in row["answers"]]
        if values.std() > 0:
            assert np.argsort(values, kind="stable").tolist() == np.argsort(advantages, kind="stable").tolist()
            assert sum(advantages) == pytest.approx(0, abs=1e-4)
        for answer in row["answers"]:
            assert answer["parts"]["small_tokens/share"] == answer["reward"]
            assert 1 <= answer["length"] <= 5
            assert answer["finish_reason"] in ("stop", "length")
        for image in row["images"]:
            data = (journal.folder / image["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == image["sha256"]
            assert list(Pillow.open(io.BytesIO(data)).size) == image["size"]
    assert {"prompt", "asked", "images"} <= set(rows[0])


def test_a_run_that_was_cut_off_keeps_the_same_rollouts_and_samples(world: Path, tmp_path: Path):
    whole = run(rewarded(world, tmp_path / "whole"))
    for cut_at in (2, 7, 10):

        def show(step: int, num_steps: int, metrics: Mapping[str, float], cut_at: int = cut_at) -> None:
            if step == cut_at:
                raise Killed

        with pytest.raises(Killed):
            build.train(rewarded(world, tmp_path / "cut"), say=lambda line: None, show=show)
    cut = Journal.open(build.resume(tmp_path / "cut", trust_remote_code=True, say=lambda line: None, show=quietly))
    assert cut.read_rollouts() == whole.read_rollouts()
    assert cut.read_samples() == whole.read_samples()


def test_preference_and_reward_runs_sample_before_the_first_update_and_say_what_an_answer_is_worth(
    world: Path, tmp_path: Path
):
    learned = run(rewarded(world, tmp_path / "rewards")).read_samples()
    assert [row["step"] for row in learned] == [0, 4, 8, 12]
    assert all(math.isfinite(row["reward"]) and row["parts"] and row["answer"] is not None for row in learned)
    preferred = run(tiny_recipe(world, tmp_path / "dpo", train={"samples": 1})).read_samples()
    assert [row["step"] for row in preferred] == [0, 4, 8, 12]
    assert preferred[0]["preferred"]
    assert (tmp_path / "dpo" / preferred[0]["images"][0]["file"]).is_file()


def test_a_preference_loss_on_rewards_has_no_advantages(world: Path, tmp_path: Path):
    rows = run(rewarded(world, tmp_path / "run", kind="dpo")).read_rollouts()
    assert {answer["advantage"] for row in rows for answer in row["answers"]} == {None}


def test_no_rollout_is_kept_when_none_is_asked_for(world: Path, tmp_path: Path):
    assert not run(rewarded(world, tmp_path / "run", samples=0)).read_rollouts()


@pytest.mark.parametrize("num", [1, 2, 3, 4, 24, 25, 100, 12_345])
def test_the_first_rollouts_are_kept_and_then_evenly_up_to_the_last(num: int):
    kept = sorted(shown_rollouts(num))
    assert len(kept) == min(num, MOST_ROLLOUTS)
    assert kept[:3] == [1, 2, 3][:num]
    assert kept[-1] == num
    gaps = np.diff(kept[2:])
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_advantages_of_tokens_are_averaged_over_the_tokens_that_count():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_advantages(torch.tensor([[1.0, 3.0, 9.0], [2.0, 9.0, 9.0]]), mask) == [2.0, 2.0]
    assert mean_advantages(torch.tensor([0.5, -0.5]), mask) == [0.5, -0.5]
    assert mean_advantages(None, mask) is None


def test_a_large_picture_is_kept_small_and_a_large_truth_is_left_out(world: Path, tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 700, 3), dtype=np.uint8)
    Pillow.fromarray(noise).save(tmp_path / "noise.png")
    picture = Image(path="noise.png")
    prompts = [
        Prompt(
            id=str(i),
            messages=(Message(role="user", content=(picture, f"What is here, {i}?")),),
            truth={"long": "x" * (TRUTH_LENGTH * i)},
        )
        for i in range(4)
    ]
    write_groups(tmp_path / "prompts.jsonl", [Group(prompt=prompt) for prompt in prompts])
    recipe = rewarded(world, tmp_path / "run")
    recipe = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"files": (str(tmp_path / "prompts.jsonl"),)}),
            "monitors": recipe.monitors.model_copy(update={"duplicates": None}),
        }
    )
    journal = run(recipe)
    rows = journal.read_rollouts()
    [image] = {json.dumps(row["images"][0]) for row in rows}
    kept = json.loads(image)
    assert kept["path"] == "noise.png"
    assert kept["size"] == [700, 900]
    assert (journal.folder / kept["file"]).stat().st_size <= PICTURE_BYTES
    assert len(list((journal.folder / "pictures").iterdir())) == 1
    assert all(("truth" in row) == (row["prompt"] == "0") for row in rows)
