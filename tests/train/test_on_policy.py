"""The first update of a rollout is on-policy to the last bit, whatever the sampler's rounding, on every family."""

from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.journal import Journal
from sightline.models.load import save_merged
from tests.families import ROWS, family_loaded
from tests.train.runs import tiny_recipe

pytestmark = pytest.mark.exactness
KINDS = ("grpo", "gspo", "ppo")
FAST = ("llava-clip",)
TRAIN = {"save_every": 4, "groups_per_step": 4, "token_budget": 300, "samples": 0, "check_first_batch": False}
UPDATES: dict[str, dict[str, int]] = {"single": {}, "several": {"prompts": 8, "passes": 2}}
"""Of each rollout."""
EYES = {"train_tower": True, "train_projector": True}


def updates(world: Path, out: Path, kind: str, rollout: dict[str, int], **model: Any) -> list[dict[str, float]]:
    """Metrics of four updates in bfloat16, whose rollouts make answers long enough for rounding to show."""
    recipe = tiny_recipe(
        world,
        out,
        model={"dtype": "bfloat16"} | model,
        objective={"kind": kind},
        rewards=[{"name": "tests.train.rl_rewards:small_tokens"}],
        rollout={"max_tokens": 12, "group_size": 3, "reward_workers": 0} | rollout,
        train=TRAIN | {"steps": 4},
    )
    folder = build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)
    return Journal.open(folder).read_metrics()


def assert_on_policy(row: dict[str, float]) -> None:
    assert row["sampler/difference"] > 0
    assert row["policy/ratio"] == 1
    assert row["policy/kl_behaviour"] == 0
    assert row["policy/clip_share_low"] == row["policy/clip_share_high"] == 0


@pytest.mark.parametrize("rollout", UPDATES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ROWS]
)
def test_no_token_of_the_first_update_is_clipped(name: str, kind: str, rollout: str, world: Path, tmp_path: Path):
    save_merged(family_loaded(name), tmp_path / "model")
    rows = updates(world, tmp_path / "run", kind, UPDATES[rollout], path=str(tmp_path / "model"))
    for row in rows if rollout == "single" else rows[:1]:
        assert_on_policy(row)
    if rollout == "several":
        assert rows[1]["policy/ratio"] != 1


@pytest.mark.parametrize("model", [{"train": "lora"}, {"train": "lora", **EYES}, EYES], ids=("lora", "seeing", "all"))
def test_so_it_is_whatever_is_trained(model: dict[str, Any], world: Path, tmp_path: Path):
    rows = updates(world, tmp_path / "run", "gspo", UPDATES["several"], **model)
    assert_on_policy(rows[0])


def test_the_kl_in_the_reward_begins_at_nothing(world: Path, tmp_path: Path):
    recipe = tiny_recipe(
        world,
        tmp_path / "run",
        model={"dtype": "bfloat16"},
        objective={"kind": "reinforce_pp", "kl_in_reward": 1.0},
        rewards=[{"name": "tests.train.rl_rewards:small_tokens"}],
        rollout={"max_tokens": 12, "group_size": 3, "reward_workers": 0},
        train=TRAIN | {"steps": 1},
    )
    folder = build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)
    [row] = Journal.open(folder).read_metrics()
    assert row["kl/reference"] == 0
