"""The doctor, whole: sound runs on data and on rewards, and a planted fault for every line that a run has not."""

import importlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sightline import build
from sightline.build.doctor_boxes import Answered, box_line
from sightline.build.doctor_rows import look_at_rows, row_lines
from sightline.build.loading import make_inputs
from sightline.build.plan import this_machine
from sightline.config import Recipe, make_recipe
from sightline.data.files import write_groups
from sightline.models.load import Loaded, load_model
from sightline.records import Completion, Group, Prompt
from sightline.reports.doctor_page import Line
from sightline.world.prompts import exact_group, task_prompts
from sightline.world.tasks import make_question
from sightline.world.weights import resolve
from tests.tiny import tiny_groups, tiny_prompt
from tests.train.runs import tiny_recipe

MANUAL = Path(__file__).parents[2] / "docs" / "doctor.md"
WORLD = {
    "name": "boxes",
    "model": {"path": "world:base", "train": "lora"},
    "objective": {"kind": "grpo"},
    "rewards": [{"name": "vision_r1", "options": {"phase": "off"}}],
    "rollout": {"group_size": 4, "max_tokens": 96, "reward_workers": 0},
    "train": {"steps": 2, "groups_per_step": 3, "threads": 1},
}


def examined(recipe: Recipe, page: Path) -> dict[str, Line]:
    """Lines by name; the page is there afterwards."""
    told: list[Line] = []
    lines = build.doctor(recipe=recipe, page=page, tell=told.append)
    assert told == lines
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    unexplained = [line.name for line in lines if f"| `{line.name}` |" not in MANUAL.read_text(encoding="utf-8")]
    assert not unexplained, f"docs/doctor.md does not explain {unexplained}"
    return {line.name: line for line in lines}


def states(lines: Mapping[str, Line]) -> dict[str, str]:
    return {name: line.state for name, line in lines.items()}


def world_recipe(folder: Path, prompts: list[Prompt], **blocks: Any) -> Recipe:
    write_groups(folder / "prompts.jsonl", [Group(prompt=prompt) for prompt in prompts])
    values = WORLD | {"out": str(folder / "run"), "data": {"files": [str(folder / "prompts.jsonl")]}}
    return make_recipe(values | blocks)


@pytest.fixture(scope="module")
def detect() -> list[Prompt]:
    return task_prompts("detect", "train", 6)


@pytest.fixture(scope="module")
def base() -> Loaded:
    return load_model(resolve("world:base"), dtype="float32")


@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_a_sound_run_on_data_is_well_and_leaves_nothing_behind(objective: str, world: Path, tmp_path: Path):
    recipe = tiny_recipe(world, tmp_path / "run", objective={"kind": objective})
    found = examined(recipe, tmp_path / "page.html")
    assert "fail" not in states(found).values(), found
    assert list(found) == [
        *("data", "lengths", "turns", "image tokens", "picture is read", "reference", "prompt once"),
        *("sampler", "boxes", "memory", "time"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_sound_run_on_rewards_is_well_and_its_boxes_are_drawn(detect: list[Prompt], tmp_path: Path):
    found = examined(world_recipe(tmp_path, detect), tmp_path / "page.html")
    assert "fail" not in states(found).values(), found
    assert found["rewards"].state == "pass"
    assert "overlap the true ones by" in found["boxes"].said
    page = (tmp_path / "page.html").read_text()
    assert page.count('<svg class="boxes"') >= 6
    assert "In truth" in page
    assert "As answered" in page


@pytest.mark.parametrize("own_answer", [False, True])
def test_a_reward_model_is_looked_at_too(world: Path, tmp_path: Path, own_answer: bool):
    data = {"validation_files": [str(world / "validation.jsonl")]}
    objective = {"kind": "ranking", "own_answer": own_answer, "own_answer_tokens": 4}
    recipe = tiny_recipe(world, tmp_path / "run", objective=objective, data=data)
    assert "fail" not in states(examined(recipe, tmp_path / "page.html")).values()


def test_text_alone_is_looked_at_too(world: Path, tmp_path: Path):
    write_groups(tmp_path / "text.jsonl", [group for group in tiny_groups(12) if not group.prompt.images])
    recipe = tiny_recipe(world, tmp_path / "run", data={"files": [str(tmp_path / "text.jsonl")]})
    found = states(examined(recipe, tmp_path / "page.html"))
    assert "fail" not in found.values()
    assert (found["image tokens"], found["picture is read"]) == ("skip", "skip")


# Faults


def test_answers_above_the_limit_are_bad_data(world: Path, tmp_path: Path):
    found = examined(tiny_recipe(world, tmp_path / "run", data={"max_answer_tokens": 3}), tmp_path / "page.html")
    assert found["data"].state == "fail"
    assert "more than 3; shorten it or raise data.max_answer_tokens" in found["data"].said
    skipping = tiny_recipe(world, tmp_path / "run", data={"max_answer_tokens": 3, "on_bad": "skip"})
    assert examined(skipping, tmp_path / "page.html")["data"].state == "look"


def test_data_without_one_usable_row_ends_there(world: Path, tmp_path: Path):
    write_groups(tmp_path / "bare.jsonl", [Group(prompt=tiny_prompt("x"))])
    recipe = tiny_recipe(world, tmp_path / "run", data={"files": [str(tmp_path / "bare.jsonl")]})
    assert states(examined(recipe, tmp_path / "page.html")) == {"data": "fail"}


def test_rows_longer_than_the_model_reads_fail(detect: list[Prompt], tmp_path: Path):
    recipe = world_recipe(tmp_path, detect, rollout=WORLD["rollout"] | {"max_tokens": 1000})
    line = lengths_line(recipe)
    assert line.state == "fail"
    assert "the model was made for 1,024" in line.said
    assert "rollout.max_tokens" in line.cure


def lengths_line(recipe: Recipe) -> Line:
    """The line alone: sampling a thousand tokens would take its time."""
    loaded = load_model(resolve(recipe.model.path), dtype="float32")
    return {line.name: line for line in row_lines(recipe, loaded, look_at_rows(recipe, loaded))}["lengths"]


def test_stored_answers_without_their_end_are_looked_at(world: Path, tmp_path: Path):
    cut = Completion(text="red red", token_ids=(300, 301), finish_reason="length")
    rows = [replace(group, completions=(cut, group.completions[1])) for group in tiny_groups(4)]
    write_groups(tmp_path / "cut.jsonl", rows)
    recipe = tiny_recipe(
        world, tmp_path / "run", data={"files": [str(tmp_path / "cut.jsonl")]}, train={"token_budget": 9999}
    )
    line = examined(recipe, tmp_path / "page.html")["lengths"]
    assert (line.state, "lack their end of turn" in line.said) == ("look", True)


def test_answers_that_are_all_cut_fail(detect: list[Prompt], tmp_path: Path):
    recipe = world_recipe(tmp_path, detect, rollout=WORLD["rollout"] | {"max_tokens": 4})
    found = examined(recipe, tmp_path / "page.html")
    assert (found["answers end"].state, found["answers end"].cure) == ("fail", "raise rollout.max_tokens")
    assert found["rewards"].state == "fail", "unfinished boxes all earn the same"


def test_a_reward_that_is_always_the_same_teaches_nothing(detect: list[Prompt], tmp_path: Path):
    recipe = world_recipe(tmp_path, detect, rewards=[{"name": "tests.build.faulty_rewards:always_one"}])
    line = examined(recipe, tmp_path / "page.html")["rewards"]
    assert (line.state, "differ within 0 of 3 groups" in line.said) == ("fail", True)


def test_a_reward_that_raises_is_named_with_its_error(detect: list[Prompt], tmp_path: Path):
    recipe = world_recipe(tmp_path, detect, rewards=[{"name": "tests.build.faulty_rewards:buggy"}])
    line = examined(recipe, tmp_path / "page.html")["rewards"]
    assert line.state == "fail"
    assert "objcts" in line.said


def test_a_reward_for_a_task_that_does_not_occur_stops_the_trial(detect: list[Prompt], tmp_path: Path):
    recipe = world_recipe(tmp_path, detect, rewards=[WORLD["rewards"][0] | {"tasks": ["detekt"]}])
    line = examined(recipe, tmp_path / "page.html")["trial step"]
    assert (line.state, "did you mean detect?" in line.said) == ("fail", True)


def test_a_reward_that_reads_another_space_is_caught(detect: list[Prompt], tmp_path: Path):
    rewards = [{"name": "vision_r1", "options": {"phase": "off", "space": "thousand"}}]
    line = examined(world_recipe(tmp_path, detect, rewards=rewards), tmp_path / "page.html")["boxes"]
    assert line.state == "fail"
    assert "when read as thousand" in line.said
    assert line.cure == "set the reward's option space to seen"


@pytest.mark.parametrize(
    ("scale", "said"),
    [(1 / 64, "are shares of the picture, not pixels"), (1000 / 64, "leave the picture"), (1.0, None)],
)
def test_truth_in_another_space_is_caught(scale: float, said: str | None, detect: list[Prompt], base: Loaded):
    def moved(prompt: Prompt) -> Prompt:
        objects = [o | {"box": [corner * scale for corner in o["box"]]} for o in prompt.truth["objects"]]
        return replace(prompt, truth={**prompt.truth, "objects": objects})

    inputs = make_inputs(base)
    rows = [(Group(prompt=moved(prompt)), inputs) for prompt in detect]
    line = box_line([Answered(row=row, completion=Completion(text="[]"), whose="x") for row in rows], {})
    assert line.state == ("fail" if said else "pass")
    assert said is None or said in line.said


def test_boxes_that_leave_the_picture_are_in_another_space(detect: list[Prompt], base: Loaded):
    inputs = make_inputs(base)
    text = '[{"bbox_2d": [400, 300, 900, 950], "label": "cat"}]'
    bare = [replace(prompt, truth={}) for prompt in detect]
    answered = [
        Answered(row=(Group(prompt=prompt), inputs), completion=Completion(text=text), whose="x") for prompt in bare
    ]
    line = box_line(answered, {"rec_iou": "seen"})
    assert line.state == "fail"
    assert "100% of the answers' boxes leave the picture when reward rec_iou reads them as seen" in line.said
    assert box_line(answered, {"rec_iou": "thousand"}).state == "pass"


def test_boxes_of_data_are_held_to_the_truth_in_the_frame_that_fits(base: Loaded):
    inputs = make_inputs(base)
    groups = [exact_group(make_question("detect", "canvas", n)) for n in range(4)]
    rows = [Answered(row=(group, inputs), completion=group.completions[0], whose="x") for group in groups]
    line = box_line(rows, {})
    assert line.state == "pass"
    assert "overlap the true ones by" in line.said


def test_a_machine_with_too_little_memory_is_named(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def small(*arguments: Any, **options: Any):
        return replace(this_machine(*arguments, **options), memory=2**20, name="a thimble")

    monkeypatch.setattr(importlib.import_module("sightline.build.doctor"), "this_machine", small)
    line = examined(tiny_recipe(world, tmp_path / "run"), tmp_path / "page.html")["memory"]
    assert line.state == "fail"
    assert "a thimble has 1 MiB" in line.said
    assert "train.token_budget" in line.cure


def test_kept_log_probs_of_other_weights_are_caught(world: Path, tmp_path: Path):
    cache = tmp_path / "kept"
    recipe = tiny_recipe(world, tmp_path / "run", train={"steps": 1}, reference={"cache": str(cache)})
    build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)
    assert examined(recipe, tmp_path / "page.html")["reference"].state == "pass"
    for path in cache.glob("*.safetensors"):
        save_file({name: value - 0.5 for name, value in load_file(path).items()}, path)
    line = examined(recipe, tmp_path / "page.html")["reference"]
    assert (line.state, "0.5" in line.said) == ("fail", True)


def test_the_time_of_a_step_is_near_what_a_run_takes(world: Path, tmp_path: Path):
    line = examined(tiny_recipe(world, tmp_path / "run"), tmp_path / "page.html")["time"]
    assert "s a step, 12 steps" in line.said
    seconds = float(line.said.removeprefix("about ").partition(" ")[0])
    assert 0 < seconds < math.inf
