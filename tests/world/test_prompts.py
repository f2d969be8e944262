"""Questions as records: the picture is in the prompt, whole, and the truth with it."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from sightline.records import Group, Image
from sightline.world.prompts import as_prompt, exact_group, picture_png, task_prompts
from sightline.world.scenes import SPLITS, draw, make_scene
from sightline.world.tasks import TASKS, make_question


@pytest.mark.parametrize("split", SPLITS)
def test_the_png_is_the_drawn_picture(split: str):
    scene = make_scene(split, 3)
    picture = Pillow.open(io.BytesIO(picture_png(scene)))
    np.testing.assert_array_equal(np.asarray(picture), draw(scene))


@pytest.mark.parametrize("task", TASKS)
def test_a_prompt_is_the_picture_and_then_the_question(task: str):
    question = make_question(task, "test", 5)
    prompt = as_prompt(question)
    (message,) = prompt.messages
    picture, text = message.content
    assert isinstance(picture, Image)
    assert picture.data == picture_png(question.scene)
    assert text == question.text
    assert (message.role, prompt.task, prompt.truth) == ("user", task, question.truth)


def test_prompts_are_about_consecutive_scenes_and_named_after_them():
    prompts = task_prompts("count", "validation", 3, seed=2, first=10)
    assert [prompt.id for prompt in prompts] == [f"count-validation-2-{index}" for index in (10, 11, 12)]
    assert prompts == task_prompts("count", "validation", 3, seed=2, first=10)
    assert prompts[1:] == task_prompts("count", "validation", 2, seed=2, first=11)


@pytest.mark.parametrize("task", TASKS)
def test_an_exact_group_survives_its_json_line(task: str):
    group = exact_group(make_question(task, "test", 1))
    again = Group.from_json(group.to_json())
    assert again == group
    assert again.completions[0].text == make_question(task, "test", 1).answer
