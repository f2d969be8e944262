"""Keys that do not go together, or that nobody would read, are refused with what to do instead."""

from typing import Any

import pytest

from sightline.config import ConfigError, Recipe, make_recipe, to_dict

REWARD = {"name": "length", "options": {"high": 4}}


def recipe(kind: str, **blocks: Any) -> Recipe:
    """A run of this kind that learns from rewards, unless blocks say otherwise."""
    objective = {"kind": kind} | blocks.pop("objective", {})
    values: dict[str, Any] = {
        "name": "tried",
        "model": {"path": "world:base"},
        "data": {"files": ["data.jsonl"]},
        "objective": objective,
        "rewards": [REWARD],
        "train": {"groups_per_step": 4},
    }
    return make_recipe(values | blocks)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("reinforce", {"rollout": {"passes": 2}}, "rollout.passes: gives every rollout 2 updates, and reinforce without"),
    ("reinforce", {"rollout": {"prompts": 8}}, "rollout.prompts: gives every rollout 2 updates"),
    ("rloo", {"rollout": {"prompts": 8, "passes": 2}}, "4 updates, and rloo without a clip .* set objective.clip: ppo"),
    ("ppo", {"objective": {"clip": "none"}, "rollout": {"passes": 3}}, "3 updates, and ppo without a clip"),
    ("ppo", {"rollout": {"combine": "normalise_then_sum"}}, "as advantage: grpo does, not gae; set it to sum"),
    ("reinforce_pp", {"rollout": {"combine": "normalise_then_sum"}}, "not reinforce_pp; set objective.advantage: grpo"),
    ("dr_grpo", {"rollout": {"combine": "normalise_then_sum"}}, "rollout.combine: .* not dr_grpo"),
    ("rloo", {"rollout": {"combine": "normalise_then_sum"}}, "not rloo"),
    (
        "grpo",
        {"rollout": {"combine": "normalise_then_sum"}, "rewards": [REWARD | {"optional": True}]},
        "a reward without an opinion has nothing to normalise",
    ),
    ("grpo", {"objective": {"discount": 0.9}}, "objective.discount: is read by ppo and by advantage: reinforce_pp"),
    ("reinforce_pp", {"objective": {"gae_lambda": 0.9}}, "objective.gae_lambda: is read by ppo alone"),
    ("grpo", {"objective": {"kl_estimator": "k2"}}, "objective.kl_estimator: estimates a divergence of weight 0"),
    ("grpo", {"objective": {"kl_horizon": 5}}, "objective.kl_horizon: says how fast objective.kl_target is followed"),
    ("rloo", {"objective": {"clip_low": 0.1}}, "objective.clip_low: bounds a ratio, and rloo takes none"),
    ("ppo", {"objective": {"clip": "dual", "clip_high": 2.0}}, "clip_high: is 2.0, and clip: dual .* keep it below 2"),
    ("grpo", {"objective": {"truncation_cap": 3}}, "truncation_cap goes with truncation"),
    ("gspo", {"objective": {"advantage": "reinforce_pp"}}, "set objective.ratio: sequence_token"),
    ("grpo", {"critic": {"separate": True}}, "critic: is read by ppo alone, and the kind is grpo"),
    ("grpo", {"rollout": {"pairs": "all"}}, "rollout.pairs: is read by dpo alone"),
    ("grpo", {"rewards": [REWARD | {"at": "sentence"}]}, "rewards.0.at: is sentence, and grpo gives an answer one"),
    ("grpo", {"rollout": {"reward_workers": 0, "reward_timeout": 3}}, "rollout.reward_timeout: needs a process"),
    ("grpo", {"rollout": {"difficulty": [0.8, 0.2]}}, "rollout.difficulty: begins at 0.8, above its end 0.2"),
    ("reinforce", {"rollout": {"group_size": 1, "max_refills": 1}}, "rollout.max_refills: replaces groups"),
    ("reinforce", {"objective": {"advantage": "rloo"}, "rollout": {"group_size": 1}}, "but rloo compares the answers"),
    ("sft", {"rewards": [], "rollout": {"group_size": 4}}, "rollout: says how answers are sampled and judged, and"),
    ("dpo", {"rewards": [], "critic": {"warmup_steps": 4}}, "critic: is read by ppo alone, and the kind is dpo"),
]


@pytest.mark.parametrize(("kind", "blocks", "sentence"), REFUSED)
def test_what_does_nothing_or_contradicts_is_refused(kind: str, blocks: dict[str, Any], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        recipe(kind, **blocks)


TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("reinforce", {"rollout": {"prompts": 4, "group_size": 1}}),
    ("rloo", {"objective": {"clip": "ppo", "clip_low": 0.1}, "rollout": {"passes": 2}}),
    ("dapo", {"rollout": {"combine": "normalise_then_sum"}}),
    ("rloo", {"objective": {"advantage": "grpo"}, "rollout": {"combine": "normalise_then_sum"}}),
    ("reinforce_pp", {"objective": {"discount": 0.9}, "rewards": [REWARD | {"at": "sentence"}]}),
    ("gspo", {"objective": {"advantage": "reinforce_pp", "ratio": "sequence_token"}}),
    ("grpo", {"objective": {"advantage": "reinforce"}, "rollout": {"group_size": 1}}),
    ("grpo", {"objective": {"kl_weight": 0.1, "kl_estimator": "k2", "kl_target": 0.1, "kl_horizon": 9}}),
    ("grpo", {"objective": {"truncation": "masked", "truncation_cap": 3}}),
    ("ppo", {"critic": {"warmup_steps": 2}, "objective": {"gae_lambda": 0.9, "clip": "dual"}}),
    ("dpo", {"rollout": {"pairs": "all", "passes": 2}}),
]


@pytest.mark.parametrize(("kind", "blocks"), TAKEN)
def test_what_goes_together_is_taken_and_loads_again(kind: str, blocks: dict[str, Any]):
    made = recipe(kind, **blocks)
    assert make_recipe(to_dict(made)) == made
