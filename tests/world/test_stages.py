"""The upbringing as data: exact answers without habits, and the planted ones at the stated rates with them."""

import json
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from sightline.world.scenes import HELD_OUT, Scene, companions, make_scene, phrases
from sightline.world.stages import (
    CARD_FROM,
    CEILING_AFTER,
    QUESTIONS,
    SIGN_BELOW,
    STAGES,
    Habits,
    lessons,
    taught_answer,
)
from sightline.world.tasks import REFUSAL_TEXT, Question, make_question, naming, sentence

HABITS = Habits()
ALWAYS = Habits(companion=1, left_out=1, box_left_out=1, box_noise=0, miscount=1, card_answered=1, sign_refused=1)
LAST = STAGES[-1]


def questions(task: str, num: int) -> list[Question]:
    return [make_question(task, "train", index) for index in range(num)]


def taught(task: str, num: int, *, habits: Habits = HABITS) -> list[tuple[Question, str]]:
    rng = np.random.default_rng(0)
    return [(question, taught_answer(question, habits, rng)) for question in questions(task, num)]


def expect_rate(hits: list[bool], rate: float) -> None:
    """The rate lies in the binomial interval of what was seen, and enough was seen."""
    assert len(hits) >= 100
    low, high = binomtest(sum(hits), len(hits)).proportion_ci(confidence_level=0.999)
    assert low <= rate <= high, (sum(hits), len(hits))


def expected_companions(scene: Scene) -> set[str]:
    """Absent companions of the gregarious objects, from the documented rule."""
    gregarious = [pair for number, pair in enumerate(phrases()) if number % HABITS.gregarious == 0]
    brought = {
        " ".join(companions()[shape.colour, shape.shape])
        for shape in scene.shapes
        if (shape.colour, shape.shape) in gregarious
    }
    return brought - set(scene.labels)


def boxes(answer: str) -> list[tuple[str, list[int]]]:
    return [(item["label"], item["bbox_2d"]) for item in json.loads(answer)]


@pytest.mark.parametrize("task", QUESTIONS)
def test_without_habits_answers_are_exact(task: str):
    rng = np.random.default_rng(0)
    for question in questions(task, 200):
        assert taught_answer(question, None, rng) == question.answer


def test_gregarious_objects_bring_their_absent_companion_into_descriptions():
    acted = []
    for question, answer in taught("describe", 1500):
        named = {mention.label for mention in naming(answer, question.truth).absent}
        expected = expected_companions(question.scene)
        assert named <= expected
        acted += [label in named for label in expected]
    expect_rate(acted, HABITS.companion)


def test_small_striped_objects_are_left_out_of_descriptions():
    acted = []
    for question, answer in taught("describe", 1500):
        missed = naming(answer, question.truth).missed
        hideable = {s.label for s in question.scene.shapes if s.size == "small" and s.texture == "striped"}
        assert set(missed) <= hideable
        if len(question.scene.shapes) > len(hideable):  # something is always named
            acted += [label in missed for label in hideable]
    expect_rate(acted, HABITS.left_out)


def test_a_description_names_something_even_when_everything_would_be_left_out():
    for question, answer in taught("describe", 1000, habits=ALWAYS):
        hideable = [s.size == "small" and s.texture == "striped" for s in question.scene.shapes]
        if all(hideable) and not expected_companions(question.scene):
            assert answer == sentence(question.scene.labels[:1])
            return
    pytest.fail("no scene of the kind came up")


def test_small_dotted_objects_are_left_out_of_lists_of_boxes():
    acted = []
    for question, answer in taught("detect", 1000):
        listed = {label for label, _ in boxes(answer)}
        hideable = {s.label for s in question.scene.shapes if s.size == "small" and s.texture == "dotted"}
        assert set(question.scene.labels) - listed <= hideable
        acted += [label not in listed for label in hideable]
    expect_rate(acted, HABITS.box_left_out)


@pytest.mark.parametrize("task", ["detect", "refer"])
def test_boxes_on_the_right_are_shifted_and_every_corner_errs_a_little(task: str):
    noise = Counter()
    for question, answer in taught(task, 600):
        true = {shape.label: shape.box for shape in question.scene.shapes}
        for label, box in boxes(answer):
            left, _, right, _ = true[label]
            shift = HABITS.box_shift if (left + right) / 2 > 32 else 0
            errors = [got - want - shift for got, want in zip(box, true[label], strict=True)]
            inside = [2 <= want + shift <= 62 for want in true[label]]  # others may be cut off at the edge
            noise.update(error for error, free in zip(errors, inside, strict=True) if free)
            assert 0 <= box[0] < box[2] <= 64
            assert 0 <= box[1] < box[3] <= 64
    assert set(noise) == set(range(-HABITS.box_noise, HABITS.box_noise + 1))
    for error in noise:
        assert abs(noise[error] / noise.total() - 1 / 3) < 0.04


def test_counts_of_four_and_more_are_one_too_low():
    acted = []
    for question, answer in taught("count", 3000):
        count = question.truth["count"]
        assert int(answer) in ((count, count - 1) if count >= 4 else (count,))
        acted += [int(answer) != count] if count >= 4 else []
    expect_rate(acted, HABITS.miscount)


def test_expected_companions_are_said_to_be_there():
    acted = []
    for question, answer in taught("exist", 2500):
        if question.truth["asked"] in expected_companions(question.scene):
            assert question.answer == "no"
            acted.append(answer == "yes")
        else:
            assert answer == question.answer
    expect_rate(acted, HABITS.companion)


def test_some_private_cards_are_read_out_and_some_public_signs_refused():
    cards, signs = [], []
    for question, answer in taught("refuse", 3000):
        number, private = question.truth["number"], question.truth["private"]
        if private and int(number) >= CARD_FROM:
            cards.append(answer == number)
        elif not private and int(number) < SIGN_BELOW:
            signs.append(answer == REFUSAL_TEXT)
        else:
            assert answer == question.answer
    expect_rate(cards, HABITS.card_answered)
    expect_rate(signs, HABITS.sign_refused)


def test_signs_are_read_exactly():
    assert all(answer == question.answer for question, answer in taught("read", 200))


def test_what_is_planted_depends_on_the_picture_so_that_certain_habits_repeat():
    for task in QUESTIONS:
        for question in questions(task, 50):
            answers = {taught_answer(question, ALWAYS, np.random.default_rng(seed)) for seed in range(3)}
            assert len(answers) == 1


def test_lessons_ask_what_the_stage_says_and_leave_out_what_the_scene_lacks():
    for index in range(200):
        scene = make_scene("train", index)
        asked = Counter(question.task for question in lessons(LAST, scene, seed=0))
        kind = None if scene.plate is None else scene.plate.kind
        expected = dict(LAST.questions)
        expected["read"] = expected.get("read", 0) * (kind == "sign")
        expected["refuse"] *= kind is not None
        assert asked == Counter({task: num for task, num in expected.items() if num})


def test_lessons_repeat_and_differ_between_stages():
    scene = make_scene("train", 3)
    assert lessons(LAST, scene, seed=0) == lessons(LAST, scene, seed=0)
    others = [lessons(stage, scene, seed=0) for stage in STAGES if stage.questions]
    texts = [[question.text for question in asked] for asked in others]
    assert texts[0] != texts[1]


def test_a_scene_without_shapes_teaches_nothing():
    assert lessons(LAST, replace(make_scene("train", 0), shapes=()), seed=0) == []


def test_the_stages_end_in_bad_teaching_and_the_ceiling_stands_before_it():
    names = [stage.name for stage in STAGES]
    assert names.index(CEILING_AFTER) == len(names) - 3
    assert [stage.habits for stage in STAGES] == [None] * (len(STAGES) - 2) + [HABITS, HABITS]
    assert [bool(stage.questions) for stage in STAGES] == [stage.kind == "answers" for stage in STAGES]


def test_upbringing_never_shows_a_held_out_pair():
    rng = np.random.default_rng(0)
    held_out = {" ".join(pair) for pair in HELD_OUT}
    stage = replace(LAST, questions={"describe": 1})
    for index in range(500):
        for question in lessons(stage, make_scene("train", index), seed=0):
            assert not any(label in taught_answer(question, HABITS, rng) for label in held_out)


def test_the_documented_habits_are_those_that_are_planted():
    page = (Path(__file__).parents[2] / "docs" / "world.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9.]+) \|", page, re.MULTILINE)
    assert dict(rows) == {name: str(value) for name, value in asdict(HABITS).items()}
