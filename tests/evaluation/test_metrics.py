"""Ratios gathered over prompts, and mean average precision against values worked out by hand."""

import json
import math
import random

import numpy as np
import pytest

from sightline.evaluation.metrics import diversity, gather, mean_average_precision
from sightline.rewards.boxes import LabelledBox
from sightline.world.tasks import TASKS, make_question, score, true_boxes

WHOLE = (0.0, 0.0, 10.0, 10.0)
ELSEWHERE = (30.0, 30.0, 40.0, 40.0)


def map_of(answers: list[str], true: list[list[LabelledBox]]) -> float:
    return mean_average_precision(answers, true, resamples=20).estimate


def box(corners: tuple[float, ...] = WHOLE, label: str = "red circle") -> LabelledBox:
    x1, y1, x2, y2 = corners
    return LabelledBox(label=label, box=(x1, y1, x2, y2))


def answer(*boxes: LabelledBox) -> str:
    return json.dumps([{"bbox_2d": list(some.box), "label": some.label} for some in boxes])


def levels(recall: float) -> float:
    """Share of the 101 recall levels 0.00, 0.01, ... up to this recall."""
    return (round(100 * recall) + 1) / 101


def test_scores_are_gathered_into_one_ratio_per_metric():
    gathered = gather([{"hits": (1, 2), "rate": (0, 0)}, {"hits": (3, 4), "rate": (1, 1)}])
    assert list(gathered) == ["hits", "rate"]
    np.testing.assert_array_equal(gathered["hits"].numerator, [1, 3])
    np.testing.assert_array_equal(gathered["hits"].denominator, [2, 4])
    assert gather([]) == {}


def test_every_task_can_be_gathered():
    for task in TASKS:
        questions = [make_question(task, "test", index) for index in range(30)]
        gathered = gather([score(task, question.answer, question.truth) for question in questions])
        assert all(len(ratio.numerator) == 30 for ratio in gathered.values())


@pytest.mark.parametrize(
    ("answers", "true", "expected"),
    [
        ([answer(box())], [[box()]], 1.0),
        ([answer()], [[box()]], 0.0),
        (["nonsense"], [[box()]], 0.0),
        ([answer(box(ELSEWHERE))], [[box()]], 0.0),
        ([answer(box(), box(ELSEWHERE))], [[box()]], 1 / 2),  # precision 1/2 at recall 1
        ([answer(box()), answer()], [[box()], [box()]], levels(1 / 2)),  # precision 1 up to recall 1/2
        ([answer(box(), box(ELSEWHERE)), answer()], [[box()], [box()]], levels(1 / 2) / 2),
        ([answer(box()), answer(), answer()], [[box()], [box()], [box()]], 34 / 101),  # levels 0.00 to 0.33
        ([answer(box((0, 0, 10, 5)))], [[box()]], 1 / 10),  # IoU 0.5 passes one threshold of ten
        ([answer(box((0, 0, 10, 7.6)))], [[box()]], 6 / 10),  # IoU 0.76 passes 0.50 to 0.75
        ([answer(box(label="blue star"))], [[box()]], 0.0),
        ([answer(box())], [[box(), box(ELSEWHERE, "blue star")]], 1 / 2),  # mean over two labels
        ([answer(box(), box(ELSEWHERE, "blue star"))], [[box()]], 1.0),  # a label that is nowhere is not averaged
        ([answer()], [[]], 0.0),
    ],
)
def test_mean_average_precision_by_hand(answers, true, expected):
    assert map_of(answers, true) == pytest.approx(expected)


def detections() -> tuple[list[str], list[list[LabelledBox]]]:
    """Answers of a detector that is right, shifted, wrong or silent by turns."""
    answers, true = [], []
    for index in range(40):
        question = make_question("detect", "test", index)
        boxes = true_boxes(question.truth)
        x1, y1, x2, y2 = boxes[0].box
        shifted = box((x1 + 2, y1, x2 + 2, y2), boxes[0].label)
        kinds = (question.answer, answer(shifted, *boxes[1:]), answer(box(WHOLE)), "")
        answers.append(kinds[index % 4])
        true.append(boxes)
    return answers, true


def test_the_order_of_images_does_not_matter():
    answers, true = detections()
    before = map_of(answers, true)
    assert 0.2 < before < 0.8
    rows = list(zip(answers, true, strict=True))
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        shuffled = map_of([row[0] for row in rows], [row[1] for row in rows])
        assert shuffled == pytest.approx(before)


def test_exact_answers_have_mean_average_precision_one():
    questions = [make_question("detect", split, index) for split in ("test", "crowd", "canvas") for index in range(50)]
    truths = [true_boxes(question.truth) for question in questions]
    assert map_of([question.answer for question in questions], truths) == pytest.approx(1)


@pytest.mark.parametrize(
    "spam",
    [
        lambda boxes: [*boxes, *boxes],
        lambda boxes: [*boxes, box((50, 50, 60, 60), boxes[0].label)],
        lambda boxes: [*boxes, *(box((x, x, x + 9, x + 9), some.label) for some in boxes for x in range(0, 50, 5))],
        lambda boxes: [box(some.box, boxes[0].label) for some in boxes for _ in range(2)],
    ],
    ids=["every box twice", "one box too many", "boxes everywhere", "one label for all"],
)
def test_spam_lowers_it(spam):
    questions = [make_question("detect", "test", index) for index in range(40)]
    truths = [true_boxes(question.truth) for question in questions]
    clean = map_of([answer(*boxes) for boxes in truths], truths)
    spammed = map_of([answer(*spam(boxes)) for boxes in truths], truths)
    assert spammed < 0.8 * clean


def test_one_malformed_answer_costs_its_own_boxes_only():
    answers, true = detections()
    broken = ["[" * 100_000, *answers[1:]]
    assert 0 < map_of(broken, true) < map_of(answers, true)


def test_answers_and_truths_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        map_of([answer()], [])


def test_the_interval_holds_the_estimate_and_shrinks_with_more_images():
    answers, true = detections()
    few, many = (mean_average_precision(answers * n, true * n, resamples=400) for n in (1, 8))
    assert few.low < few.estimate < few.high
    assert many.high - many.low < 0.6 * (few.high - few.low)


def rates(samples: list[list[str]]) -> dict[str, float]:
    return {name: float(r.numerator.sum() / r.denominator.sum()) for name, r in diversity(samples).items()}


def test_one_answer_over_and_over_is_not_diverse():
    found = rates([["a red cat sat here"] * 4])
    assert found == pytest.approx({"distinct_answers": 0.25, "distinct_2": 0.25, "self_bleu": 1.0, "distance": 0.0})


def test_answers_without_a_common_word_are_as_diverse_as_can_be():
    found = rates([["a b c d e", "f g h i j", "k l m n o"]])
    assert found["distinct_answers"] == found["distinct_2"] == found["distance"] == 1
    assert found["self_bleu"] == 0


def test_diversity_by_hand():
    found = rates([["red cat", "red dog"], ["one"]])
    assert found["distinct_answers"] == 1
    assert found["distinct_2"] == 1
    assert found["distance"] == pytest.approx(2 / 3)
    # of two words one matches, of one pair none (0 + 1) / (1 + 1), of longer runs there are none: (0 + 1) / (0 + 1)
    assert found["self_bleu"] == pytest.approx((0.5 * 0.5) ** 0.25)


def test_self_bleu_charges_an_answer_shorter_than_its_nearest_other():
    short, long = "a b c d", "a b c d e f g h"
    (numerator, denominator) = (diversity([[short, long]])["self_bleu"].numerator[0], 2)
    against_long = math.exp(1 - 8 / 4)
    precision = [4 / 8, (3 + 1) / (7 + 1), (2 + 1) / (6 + 1), (1 + 1) / (5 + 1)]
    against_short = math.prod(precision) ** 0.25
    assert numerator / denominator == pytest.approx((against_long + against_short) / 2)
