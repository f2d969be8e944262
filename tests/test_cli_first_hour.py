"""What a new user tries first: words from elsewhere, version, completion, JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline.cli import main
from sightline.config import recipe_names

PAIRS = "runs/world/describe_pairs.jsonl"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--lr 1e-5", "unknown option --lr; did you mean --optim.learning_rate?"),
        ("--learning-rate 1e-5", "unknown option --learning-rate; did you mean --optim.learning_rate?"),
        ("--beta 0.2", "unknown option --beta; did you mean --objective.beta?"),
        ("--batch_size 8", "unknown option --batch_size; did you mean --train.groups_per_step?"),
        ("--nll_weight 1", "unknown option --nll_weight; did you mean --objective.nll_weight?"),
        ("--dry-rum", "unknown option --dry-rum; did you mean --dry-run?"),
        ("lora.r=8", "command line: lora: unknown key; did you mean model.lora.rank?"),
        ("--model.lora.r 8", "command line: model.lora.r: unknown key; did you mean model.lora.rank?"),
        ("--train.batch_size 8", "command line: train.batch_size: unknown key; did you mean train.groups_per_step?"),
        ("--objective.kind orpo", "command line: objective.kind: is 'orpo', which is not here; dpo learns from pairs"),
        ("--objective.kind KTO", "command line: objective.kind: is 'KTO', which is not here; dpo learns from pairs"),
        ("--objective.kind dpoo", "command line: objective.kind: is 'dpoo'; did you mean dpo?"),
    ],
)
def test_words_of_other_trainers_are_understood(words: str, says: str, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "dpo_world", *words.split(), "--dry-run"][: None if "dry" not in words else -1]) == 2
    assert capsys.readouterr().err.startswith(f"sightline: error: {says}")


def test_every_key_that_is_suggested_exists():
    from sightline.config.elsewhere import KEYS, KINDS
    from sightline.config.mistakes import keys_of
    from sightline.config.schema import Recipe
    from sightline.registry import catalogue

    assert set(KEYS.values()) <= keys_of(Recipe)
    assert {kind for kind, _ in KINDS.values()} <= set(catalogue()["objective"])
    assert not set(KINDS) & set(catalogue()["objective"])


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_has_a_short_flag(flag: str, capsys: pytest.CaptureFixture[str]):
    assert main([flag]) == 0
    assert capsys.readouterr().out[0].isdigit()


def test_completion_is_installed_by_one_option(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out
    from sightline.cli import app

    assert "evaluate" in app.generate_completion(shell="bash")


def test_recipes_are_listed_with_their_commands(capsys: pytest.CaptureFixture[str]):
    assert main(["recipes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in recipe_names():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}: "))
        commands = []
        for line in lines[at + 1 :]:
            if not line.startswith("    "):
                break
            commands.append(line.strip())
        assert any(command.startswith(f"sightline train {name}") for command in commands), name


def test_recipes_are_json_for_programs(capsys: pytest.CaptureFixture[str]):
    assert main(["recipes", "list", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)["recipes"]}
    assert listed["dpo_world"]["commands"][-1] == "sightline train dpo_world"
    assert main(["recipes", "show", "dpo_world", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["objective"]["kind"] == "dpo"


@dataclass(frozen=True)
class Range:
    estimate: float = 0.25
    low: float = float("nan")


def test_evaluate_prints_one_object_or_writes_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from sightline import build

    monkeypatch.setattr(build, "evaluate", lambda **given: {"describe": {"coverage": Range()}})
    words = ["evaluate", "world:base", "--tasks", "describe"]
    wanted = {"describe": {"coverage": {"estimate": 0.25, "low": None}}}
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == wanted
    assert main([*words, "--json", "--scenes", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["scenes"] == 5


def test_data_check_knows_what_a_recipe_learns_from(capsys: pytest.CaptureFixture[str]):
    assert main(["world", "groups", "--task", "count", "--num", "3", "--exact", "--out", PAIRS]) == 0
    capsys.readouterr()
    assert main(["data", "check", "dpo_world", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["used_by"] == "dpo_world (dpo)"
    assert [row["problem"] for row in found["bad_rows"]] == ["name no pair of a better and a worse answer"] * 3
    assert main(["data", "check", "sft_world", "--show", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "sft_world (sft) can use 3 of 3 rows"


def test_prompts_without_pairs_are_refused_before_the_model_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert main(["world", "prompts", "--task", "describe", "--num", "2", "--out", PAIRS]) == 0
    monkeypatch.setattr("sightline.build.runs.load_for_training", lambda recipe: pytest.fail("the model was loaded"))
    for command in ("train", "plan"):
        capsys.readouterr()
        assert main([command, "dpo_world"]) == 2
        error = capsys.readouterr().err
        assert f"{PAIRS}:1: " in error
        assert "name no pair of a better and a worse answer" in error


@pytest.mark.parametrize(
    ("reward", "options", "says"),
    [
        ("my_rewards:right_cuont", "{}", "did you mean right_count?"),
        ("my_reward:right_count", "{}", "there is no module 'my_reward'"),
        ("my_rewards:right_count", "{toleranc: 1}", "has no option 'toleranc'; did you mean tolerance?"),
        ("vision_r1", "{mdoe: paper}", "did you mean mode?"),
    ],
)
def test_own_rewards_are_checked_before_the_model_loads(
    reward: str, options: str, says: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    (folder / "my_rewards.py").write_text("def right_count(completion, context, *, tolerance=0):\n    return 1.0\n")
    prompts = "runs/world/detect_prompts.jsonl"
    assert main(["world", "prompts", "--task", "detect", "--num", "2", "--out", prompts]) == 0
    monkeypatch.setattr("sightline.build.runs.load_for_training", lambda recipe: pytest.fail("the model was loaded"))
    capsys.readouterr()
    assert main(["train", "vision_r1_world", f"rewards=[{{name: '{reward}', options: {options}}}]"]) == 2
    assert says in capsys.readouterr().err
