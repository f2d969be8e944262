"""Whatever a run scores, by policy, reference or critic: no portion is above train.token_budget."""

from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.batch import Batch, Scores
from sightline.journal import Journal
from sightline.models.forward import Policy
from sightline.models.layout import packed_length
from tests.train.runs import tiny_recipe

BUDGET = 80
TRAIN = {"steps": 2, "save_every": 2, "groups_per_step": 6, "token_budget": BUDGET}
ADAPTERS = {"model": {"train": "lora"}}
DPO: dict[str, dict[str, Any]] = {
    "cached": {"reference": {"kind": "cached"}},
    "copy": {"reference": {"kind": "copy"}},
    "adapter_off": {"reference": {"kind": "adapter_off"}} | ADAPTERS,
}
REWARDED: dict[str, dict[str, Any]] = {
    "grpo": {"objective": {"kind": "grpo", "kl_weight": 0.1}},
    "ppo": {"objective": {"kind": "ppo", "kl_in_reward": 0.1}},
    "dpo": {"objective": {"kind": "dpo"}} | ADAPTERS,
}
FROM_REWARDS: dict[str, Any] = {
    "rewards": [{"name": "tests.train.rl_rewards:small_tokens"}],
    "rollout": {"prompts": 12, "passes": 2, "group_size": 4, "max_tokens": 5, "reward_workers": 0},
}


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Packed tokens of every pass through a model from now on."""
    sizes: list[int] = []
    score = Policy.score

    def noting(self: Policy, batch: Batch, *, want: frozenset[str] = frozenset({"logprobs"})) -> Scores:
        sizes.append(packed_length(batch))
        return score(self, batch, want=want)

    monkeypatch.setattr(Policy, "score", noting)
    return sizes


def run(world: Path, out: Path, **blocks: Any) -> Path:
    """Two updates with an evaluation; the checks before the first one score too."""
    data = {"files": [str(world / "train.jsonl")], "validation_files": [str(world / "validation.jsonl")]}
    recipe = tiny_recipe(world, out, data=data, train=TRAIN, **blocks)
    return build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)


@pytest.mark.parametrize("kind", DPO)
def test_no_reference_scores_more_than_the_budget_at_once(kind: str, scored: list[int], world: Path, tmp_path: Path):
    folder = run(world, tmp_path / "run", **DPO[kind])
    rows = Journal.open(folder).read_updates()
    assert rows[0]["loss/dpo"] == pytest.approx(0.693147, abs=1e-5)
    assert rows[0]["batch/tokens"] > BUDGET
    assert max(scored) <= BUDGET


@pytest.mark.parametrize("kind", REWARDED)
def test_no_rollout_is_scored_above_the_budget_at_once(kind: str, scored: list[int], world: Path, tmp_path: Path):
    run(world, tmp_path / "run", **FROM_REWARDS, **REWARDED[kind])
    assert max(scored) <= BUDGET
