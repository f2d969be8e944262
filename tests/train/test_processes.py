"""Whole runs in two processes, each with all weights or with its part of them, are the run of one process."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.build import resume, train
from sightline.config import Recipe
from sightline.journal import Journal
from tests.train.processes import run_in_two
from tests.train.runs import metrics_of, save_world, tensors_of, tiny_recipe

pytestmark = pytest.mark.exactness

SCHEDULE = {"skill": "share", "levels": [250, 200, 150], "up": 0.4, "down": 0.1, "window": 12}
REWARDS = [
    {"name": "tests.train.rl_rewards:small_tokens", "options": {"below": SCHEDULE}},
    {"name": "repetition", "weight": 0.5, "options": {"size": {"steps": [[0.0, 1], [0.5, 2]]}}},
]
ROLLOUT = {"prompts": 10, "group_size": 3, "passes": 2, "max_tokens": 6, "max_refills": 1}
ONLINE = {"rewards": REWARDS, "rollout": ROLLOUT, "monitors": {"action": "off"}}
TOWER = {"train": "full", "train_tower": True, "train_projector": True}
LORA = {"train": "lora", "gradient_checkpointing": True}
RUNS: dict[str, dict[str, Any]] = {
    "dpo": {"data": {"validation_files": ["validation.jsonl"]}, "train": {"samples": 2}},
    "dpo with the tower": {"model": TOWER, "reference": {"kind": "copy"}},
    "dpo of adapters": {"model": LORA, "data": {"validation_files": ["validation.jsonl"]}},
    "sft": {"objective": {"kind": "sft"}},
    "ranking": {
        "objective": {"kind": "ranking", "length_weight": 0.5, "member_epochs": 1, "own_answer": True},
        "data": {"validation_files": ["validation.jsonl"]},
    },
    "grpo": {
        "objective": {"kind": "grpo", "kl_weight": 0.02},
        **ONLINE,
        "data": {"validation_files": ["validation.jsonl"]},
    },
    "reinforce_pp": {"objective": {"kind": "reinforce_pp", "kl_in_reward": 0.01}, **ONLINE, "model": LORA},
    "ppo": {"objective": {"kind": "ppo", "kl_in_reward": 0.01}, **ONLINE},
    "online dpo": {"objective": {"kind": "dpo", "beta": 0.5}, **ONLINE},
}
NUM_STEPS = 6


def recipe_of_run(world: Path, name: str, how: str) -> Recipe:
    """The run in a folder of its own; five groups a step, so that two processes never have the same number."""
    blocks = {key: dict(value) if isinstance(value, dict) else value for key, value in RUNS[name].items()}
    data = {"files": [str(world / "train.jsonl")]}
    if "validation_files" in blocks.get("data", {}):
        data["validation_files"] = [str(world / "validation.jsonl")]
    model = {"path": str(world / "model"), "train": "full"} | blocks.pop("model", {})
    steps = {"steps": NUM_STEPS, "save_every": 3, "keep_checkpoints": 9, "shard": how == "shard"}
    settings = blocks.pop("train", {}) | steps
    blocks.pop("data", None)
    blocks["optim"] = {"epsilon": 0.01}  # so that a gradient of nothing but rounding moves nothing
    return tiny_recipe(world, world / how / name.replace(" ", "_"), model=model, data=data, train=settings, **blocks)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run by one process, by two, and by two with cut weights."""
    folder = tmp_path_factory.mktemp("processes")
    save_world(folder)
    for name in RUNS:
        train(recipe=recipe_of_run(folder, name, "one"), say=lambda line: None)
    both = [recipe_of_run(folder, name, how) for how in ("two", "shard") for name in RUNS]
    assert run_in_two(folder / "meeting", both) == [0, 0]
    return folder


def assert_near(found: Path, wanted: Path) -> None:
    """The same metrics, the same names in the checkpoint, the same weights; to what float32 makes of sums in parts."""
    mine, theirs = metrics_of(found), metrics_of(wanted)
    assert len(mine) == len(theirs)
    for row, other in zip(mine[1:], theirs[1:], strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-4)
    weights, wanted_weights = tensors_of(found), tensors_of(wanted)
    for name, value in wanted_weights.items():
        if name.startswith("weights/"):
            torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=1e-4)
    # where weights are cut, an optimiser also keeps zeros for parameters that no picture and no token ever used
    assert not [name for name in weights if name not in wanted_weights and weights[name].any() and "/step" not in name]


@pytest.mark.parametrize("how", ["two", "shard"])
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_make_the_run_of_one(name: str, how: str, world: Path):
    folder = name.replace(" ", "_")
    first, wanted = (metrics_of(world / of / folder)[0] for of in (how, "one"))
    for row in (first, wanted):  # a policy that is its reference prefers by rounding alone
        row.pop("reward/accuracy", None)
    assert first == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert_near(world / how / folder, world / "one" / folder)
    assert Journal.open(world / how / folder).read_status()["state"] == "done"


@pytest.mark.parametrize("name", ["dpo_with_the_tower", "grpo", "ppo"])
def test_a_run_goes_on_with_another_number_of_processes(name: str, world: Path, tmp_path: Path):
    """From the middle: of two passes over a rollout one is left, and it is shared out anew."""
    ways = {"fewer": "shard", "more": "one"}
    for way, before in ways.items():
        shutil.copytree(world / before / name, tmp_path / way)
        with Journal.open(tmp_path / way) as journal:
            journal.rewind(3)
    resume(folder=tmp_path / "fewer", trust_remote_code=True, say=lambda line: None)
    key = name.replace("_", " ")
    more = recipe_of_run(world, key, "two").model_copy(update={"out": str(tmp_path / "more")})
    assert run_in_two(tmp_path / "meeting", [more]) == [0, 0]
    for way in ways:
        assert_near(tmp_path / way, world / "one" / name)
