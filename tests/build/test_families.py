"""Whole runs with models of other families: preferences and rewards, one encode per picture, export and use."""

import math
from pathlib import Path

import pytest

from sightline import build
from sightline.journal import Journal
from sightline.models.load import load_model, save_merged
from sightline.models.sampler import SamplingParams, sample
from tests.families import ROWS, family_loaded
from tests.tiny import tiny_inputs, tiny_policy, tiny_prompt
from tests.train.runs import tiny_recipe

pytestmark = pytest.mark.exactness  # every run holds its first batch to the twin
FAST = ("qwen2.5-vl", "qwen3-vl", "gemma3")
SHORT = {"steps": 2, "save_every": 2, "groups_per_step": 3, "token_budget": 400, "samples": 0}
SAMPLED = {"max_tokens": 5, "group_size": 3, "reward_workers": 0}
VARIED = [{"name": "tests.train.rl_rewards:small_tokens"}]
EYES = {"train": "full", "train_tower": True, "train_projector": True, "gradient_checkpointing": True}
RUNS = {
    "dpo": {"objective": {"kind": "dpo"}, "model": {"train": "lora"}},
    "grpo": {"objective": {"kind": "grpo"}, "rewards": VARIED, "rollout": SAMPLED, "model": EYES},
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ROWS]
)
def test_a_run_learns_and_its_export_answers(name: str, run: str, world: Path, tmp_path: Path):
    save_merged(family_loaded(name), tmp_path / "model")
    blocks = RUNS[run] | {"model": RUNS[run]["model"] | {"path": str(tmp_path / "model")}, "train": SHORT}
    said: list[str] = []
    recipe = tiny_recipe(world, tmp_path / "run", **blocks)
    folder = build.train(recipe, say=said.append, show=lambda step, num_steps, metrics: None)
    rows = Journal.open(folder).read_metrics()
    assert "the shared-prompt forward equals the plain one" in "\n".join(said)
    assert all(math.isfinite(row["loss/total"]) and row["optim/grad_norm"] > 0 for row in rows)
    if run == "grpo":
        assert rows[0]["policy/ratio"] == pytest.approx(1, abs=1e-5)
    loaded, _ = build.load_trained(str(folder))
    save_merged(loaded, tmp_path / "export")
    exported = load_model(str(tmp_path / "export"), dtype="float32")
    inputs = tiny_inputs(exported)
    prompts = [inputs.prompt(tiny_prompt(str(n), num_images=n, seed=n)) for n in range(3)]
    params = SamplingParams(temperature=0, max_tokens=5)
    mine, theirs = (
        sample(tiny_policy(model), prompts, num=1, params=params, ends=model.ends) for model in (loaded, exported)
    )
    assert [answers[0].token_ids for answers in mine] == [answers[0].token_ids for answers in theirs]
