"""Runs that learn from rewards, whole: what a new user tries, right and wrong."""

import math
from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.build.batches import make_objective
from sightline.build.loading import load_for_training
from sightline.config import ConfigError, make_recipe, to_dict
from sightline.journal import Journal, RunFailed
from sightline.reports.run_report import write_run_report
from tests.train.runs import tiny_recipe

SHORT = {"steps": 4, "save_every": 4, "samples": 0, "groups_per_step": 3, "token_budget": 400}
SAMPLED = {"max_tokens": 5, "group_size": 3, "reward_workers": 0}
VARIED = [{"name": "tests.train.rl_rewards:small_tokens"}]
KINDS = ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce", "reinforce_pp", "ppo")

MY_REWARDS = """
def buggy(completion, context):
    return context.truth["objcts"]

def sometimes(completion, context):
    return 1.0 if completion.token_ids[0] % 2 else context.truth["objcts"]

def always_one(completion, context):
    return 1.0
"""


@pytest.fixture
def my_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_rewards.py").write_text(MY_REWARDS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rewarded(world: Path, out: Path, **blocks: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    given = {"objective": {"kind": "grpo"}, "rewards": VARIED, "rollout": SAMPLED, "train": SHORT} | blocks
    recipe = tiny_recipe(world, out, **given)
    return build.train(recipe, say=said.append, show=lambda step, num_steps, metrics: None), said


@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_runs_and_moves_the_model(kind: str, world: Path, tmp_path: Path):
    folder, said = rewarded(world, tmp_path / "run", objective={"kind": kind})
    rows = Journal.open(folder).read_metrics()
    assert len(rows) == 4
    assert any("the shared-prompt forward equals the plain one" in line for line in said)
    assert all(math.isfinite(row["loss/total"]) for row in rows)
    assert max(row["optim/grad_norm"] for row in rows) > 0
    assert rows[0]["policy/ratio"] == 1
    assert rows[0]["policy/kl_behaviour"] == 0
    assert 0 < rows[0]["sampler/difference"] < 1e-5


@pytest.mark.parametrize("level", ["token", "sequence", "masked"])
def test_a_recipe_makes_up_for_the_sampler(level: str, world: Path, tmp_path: Path):
    objective = {"kind": "gspo", "truncation": level, "truncation_cap": 1.000001}
    folder, _ = rewarded(world, tmp_path / "run", objective=objective)
    rows = Journal.open(folder).read_metrics()
    assert all(0 <= row["sampler/truncated"] <= 1 for row in rows)
    assert max(row["sampler/truncated"] for row in rows) > 0


def test_the_critic_learns_and_its_weights_are_in_the_checkpoint(world: Path, tmp_path: Path):
    folder, _ = rewarded(
        world, tmp_path / "run", objective={"kind": "ppo"}, critic={"learning_rate": 0.05}, train=SHORT | {"steps": 30}
    )
    rows = Journal.open(folder).read_metrics()
    assert rows[-1]["loss/value"] < rows[0]["loss/value"]
    build.load_trained(str(folder))


@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_separate_critic_moves_without_the_policy_in_its_warm_up(train: str, world: Path, tmp_path: Path):
    folder, _ = rewarded(
        world,
        tmp_path / "run",
        model={"train": train},
        objective={"kind": "ppo"},
        critic={"separate": True, "warmup_steps": 4},
    )
    recipe = make_recipe(Journal.open(folder).recipe())
    loaded, _ = build.load_trained(str(folder))
    before = load_for_training(recipe).trained()
    after = {name: p for name, p in loaded.trained().items() if name in before}
    assert all(bool((before[name] == p).all()) for name, p in after.items())


@pytest.mark.parametrize("pairs", ["best_worst", "all"])
def test_a_preference_loss_learns_from_rewards_on_its_own_answers(pairs: str, world: Path, tmp_path: Path):
    folder, _ = rewarded(
        world,
        tmp_path / "run",
        objective={"kind": "dpo", "beta": 0.5},
        rollout=SAMPLED | {"pairs": pairs},
        train=SHORT | {"steps": 20},
    )
    rows = Journal.open(folder).read_metrics()
    assert rows[0]["loss/dpo"] == pytest.approx(math.log(2), abs=1e-4)
    assert sum(row["reward/mean"] for row in rows[-5:]) > sum(row["reward/mean"] for row in rows[:5])


def test_a_reward_with_a_bug_is_counted_kept_and_named(world: Path, my_folder: Path):
    folder, _ = rewarded(world, my_folder / "run", rewards=[{"name": "my_rewards:sometimes"}, *VARIED])
    rows = Journal.open(folder).read_metrics()
    assert sum(row["rollout/problems"] for row in rows) > 0
    kept = sorted((folder / "reward-failures").iterdir())
    assert "KeyError: 'objcts' (my_rewards.py, line 6)" in kept[0].read_text()


def test_a_reward_that_fails_on_every_first_answer_is_refused_with_its_reason(world: Path, my_folder: Path):
    with pytest.raises(
        ValueError, match=r"all 9 answers .* the reward raised KeyError: 'objcts' \(my_rewards.py, line 3\); mend it"
    ):
        rewarded(world, my_folder / "run", rewards=[{"name": "my_rewards:buggy"}])
    assert not Journal.open(my_folder / "run").read_metrics()


def test_a_reward_with_a_bug_may_stop_the_run_with_one_sentence(world: Path, my_folder: Path):
    with pytest.raises(RunFailed, match=r"raised KeyError: 'objcts' \(my_rewards.py, line 3\) on the answer"):
        rewarded(
            world,
            my_folder / "run",
            rewards=[{"name": "my_rewards:buggy"}],
            rollout=SAMPLED | {"on_reward_error": "stop"},
        )


def test_rewards_that_never_vary_stop_the_run_and_say_so(world: Path, my_folder: Path):
    with pytest.raises(RunFailed, match=r"without_signal: rollout/without_signal is 1, .* since update 1;") as raised:
        rewarded(world, my_folder / "run", rewards=[{"name": "my_rewards:always_one"}], monitors={"patience": 3})
    assert str(raised.value).count("answer: ") == 3
    [alarm] = Journal.open(my_folder / "run").read_alarms()
    assert (alarm["signal"], alarm["step"], alarm["since"]) == ("without_signal", 3, 1)
    page = write_run_report(my_folder / "run").read_text()
    assert "1 raised an alarm" in page
    assert '<section id="alarms">' in page
    assert "without_signal: rollout/without_signal is 1" in page
    assert Journal.open(my_folder / "run").latest() is not None


def test_a_warning_lets_the_run_go_on(world: Path, my_folder: Path):
    _, said = rewarded(
        world,
        my_folder / "run",
        rewards=[{"name": "my_rewards:always_one"}],
        monitors={"patience": 2, "action": "warn"},
    )
    assert sum("warning: without_signal" in line for line in said) == 1


def test_a_schedule_on_a_skill_that_nobody_measures_is_refused(world: Path, tmp_path: Path):
    schedule = {"skill": "lenght", "levels": [2, 3], "up": 0.5}
    with pytest.raises(ValueError, match=r"follows the skill 'lenght', which no reward measures; did you mean length"):
        rewarded(world, tmp_path / "run", rewards=[{"name": "length", "options": {"high": schedule}}])


def test_a_reward_for_a_task_that_no_prompt_has_is_refused(world: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"rewards: length: tasks names 'descibe', which no prompt has"):
        rewarded(world, tmp_path / "run", rewards=[{"name": "length", "tasks": ["descibe"]}])


def test_the_weight_of_the_kl_is_steered_and_logged(world: Path, tmp_path: Path):
    objective = {"kind": "grpo", "kl_weight": 0.1, "kl_target": 1e-6, "kl_horizon": 4}
    folder, _ = rewarded(world, tmp_path / "run", objective=objective)
    factors = [row["kl/weight_factor"] for row in Journal.open(folder).read_metrics()]
    assert factors[0] < 1 < factors[-1]


def test_an_option_that_a_reward_does_not_take_is_refused(world: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no option 'hihg'; did you mean high"):
        rewarded(world, tmp_path / "run", rewards=[{"name": "length", "options": {"hihg": 3}}])


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ({"rollout": {"group_size": 1}}, "rollout.group_size: is 1, but grpo compares the answers of a group"),
        ({"rewards": []}, "rewards: are missing, and grpo learns from nothing else"),
        ({"rewards": [{"name": "vision_r2"}]}, "reward 'vision_r2' is unknown; did you mean vision_r1?"),
        ({"objective": {"kind": "grpo", "value_clip": 0.1}}, "value_clip is not read by kind grpo, only by ppo"),
        ({"objective": {"kind": "sft"}}, "rewards: are not read by sft"),
        ({"objective": {"kind": "dpo"}, "rollout": {"group_size": 1}}, "dpo compares the answers of a group"),
        ({"objective": {"kind": "dpo"}, "reference": {"kind": "cached"}}, "answers are sampled during the run"),
        ({"rollout": {"prompts": 7}}, "rollout.prompts: is 7; give a multiple of train.groups_per_step"),
        (
            {"objective": {"kind": "ppo", "kl_target": 0.1}},
            "objective.kl_target: steers a weight that is 0; give objective.kl_in_reward or kl_weight a start",
        ),
        (
            {"objective": {"kind": "grpo", "kl_weight": 0.1}, "reference": {"kind": "cached"}},
            "answers are sampled during the run",
        ),
        (
            {
                "objective": {"kind": "grpo", "kl_weight": 0.1},
                "reference": {"kind": "adapter_off"},
                "model": {"train": "lora", "train_projector": True},
            },
            "model.train_projector is true, so switching it off does not give the start; use copy",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_loads(blocks: dict[str, Any], sentence: str, world: Path):
    given = {"objective": {"kind": "grpo"}, "rewards": VARIED, "rollout": SAMPLED, "train": SHORT} | blocks
    with pytest.raises(ConfigError) as raised:
        tiny_recipe(world, world / "never", **given)
    assert sentence in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_options_left_null_are_those_of_the_objective(kind: str, world: Path):
    recipe = tiny_recipe(world, world / "never", objective={"kind": kind}, rewards=VARIED, rollout=SAMPLED, train=SHORT)
    assert make_objective(recipe).name == kind
    assert make_recipe(to_dict(recipe)) == recipe
