"""A run that learns from rewards, killed in rollouts, updates and rule changes, ends as the one that never was."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.journal import Journal
from tests.train.killing import after_steps, end_all, finish, go_on, kill_at, last_step, launch, writing_checkpoint
from tests.train.runs import assert_same_run, save_world, tiny_recipe, write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.resume]

NUM_STEPS = 60
OBJECTIVES = {
    "grpo": {"kind": "grpo", "kl_weight": 0.02},
    "reinforce": {"kind": "reinforce_pp", "advantage": "reinforce"},
    "dpo": {"kind": "dpo", "beta": 0.5},
    "ppo": {"kind": "ppo", "kl_in_reward": 0.01},
}


@pytest.fixture(scope="module")
def killed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed_rl")
    save_world(folder, num_groups=30)
    return folder


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


def write_run(world: Path, out: Path, objective: str) -> Path:
    """Two passes over rollouts of two updates, so that checkpoints every 5 updates fall inside rollouts."""
    schedule = {"skill": "share", "levels": [250, 200, 150], "up": 0.4, "down": 0.1, "window": 12}
    recipe = tiny_recipe(
        world,
        out,
        objective=OBJECTIVES[objective],
        rewards=[
            {"name": "tests.train.rl_rewards:small_tokens", "options": {"below": schedule}},
            {"name": "repetition", "weight": 0.5, "options": {"size": {"steps": [[0.0, 1], [0.5, 2]]}}},
        ],
        rollout={"prompts": 8, "group_size": 3, "passes": 2, "max_tokens": 6, "max_refills": 1},
        monitors={"action": "warn"},
        train={"steps": NUM_STEPS, "groups_per_step": 4, "save_every": 5, "token_budget": 400},
        optim={"learning_rate": 1e-3},
    )
    return write_recipe(recipe, out.with_suffix(".yaml"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_killed_again_and_again_ends_as_the_one_that_never_was(objective: str, killed_world: Path):
    whole, out = killed_world / f"{objective}-whole", killed_world / f"{objective}-killed"
    status, _, err = finish(launch("train", write_run(killed_world, whole, objective)))
    assert status == 0, err
    moved = [row for row in Journal(whole).read_metrics() if "curriculum/small_tokens/below" in row]
    assert len({row["curriculum/small_tokens/below"] for row in moved}) > 1, "the rules must change within the run"
    recipe = write_run(killed_world, out, objective)
    dice = random.Random(7)
    for _ in range(3):
        moment = after_steps(out, dice.randint(3, 17), dice.uniform(0, 0.2), num_steps=NUM_STEPS)
        assert kill_at(go_on(recipe, out), moment)
    assert kill_at(go_on(recipe, out), lambda: bool(writing_checkpoint(out)) or last_step(out) >= NUM_STEPS - 1)
    status, _, err = finish(go_on(recipe, out))
    assert status == 0, err
    assert_same_run(out, whole)
