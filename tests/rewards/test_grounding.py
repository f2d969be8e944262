"""The one box of a referring expression."""

import json

import pytest

from sightline.records import Completion
from sightline.rewards.contract import RewardContext
from sightline.rewards.grounding import rec_iou

ONE = [{"label": "cat", "box": [0, 0, 100, 100]}]


def judged(text, truth, *, sizes=None, **options):
    context = RewardContext(truth=truth, **(sizes or {"image_size": (1000, 1000)}))
    return rec_iou(Completion(text=text), context, **options)


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        ([0, 0, 100, 100], {}, 1),
        ([0, 0, 100, 60], {}, 0.6),
        ([0, 0, 100, 60], {"threshold": 0.6}, 1),
        ([0, 0, 100, 60], {"threshold": 0.61}, 0),
        ({"bbox_2d": [0, 0, 100, 60]}, {}, 0.6),
        ([{"bbox_2d": [0, 0, 100, 60], "label": "anything"}], {}, 0.6),
        ([[0, 0, 100, 60]], {}, 0.6),
        ([[0, 0, 100, 100], [0, 0, 100, 60]], {}, 0),
        ([{"bbox_2d": [0, 0, 100, 60], "label": "cat"}] * 2, {}, 0),
        ([200, 0, 300, 100], {}, 0),
        ([0, 0, 100], {}, 0),
        ([100, 0, 0, 100], {}, 0),
        ({"box": [0, 0, 100, 100]}, {}, 0),
        ([], {}, 0),
        (None, {}, 0),
        ([0, 0, 0.1, 0.1], {"space": "unit"}, 1),
    ],
)
def test_the_one_box_of_an_expression(answer, options, expected):
    assert judged(json.dumps(answer), {"objects": ONE}, **options) == pytest.approx(expected)
    assert judged(f"```json\n{json.dumps(answer)}\n```", {"objects": ONE}, **options) == pytest.approx(expected)


def test_the_expression_may_name_a_target_in_the_seen_frame_or_a_label():
    sizes = {"image_size": (200, 200), "seen_size": (100, 100)}
    target = {"target": [0, 0, 50, 50], "label": "cat"}
    assert judged("[0, 0, 50, 50]", target, sizes=sizes) == 1
    assert judged("[0, 0, 100, 100]", target, sizes=sizes, space="original") == 1
    both = [{"label": "cat", "box": [0, 0, 20, 20]}, {"label": "dog", "box": [50, 50, 90, 90]}]
    assert judged("[25, 25, 45, 45]", {"objects": both, "label": "Dog"}, sizes=sizes) == 1
    with pytest.raises(ValueError, match=r"has 2 objects to which rec_iou could refer; give \"target\""):
        judged("[25, 25, 45, 45]", {"objects": both}, sizes=sizes)
    with pytest.raises(ValueError, match="threshold is 50"):
        judged("[1, 1, 2, 2]", {"objects": ONE}, threshold=50)


def test_the_box_may_stand_in_answer_tags():
    text = "<think>A cat.</think><answer>[0, 0, 100, 100]</answer>"
    assert judged(text, {"objects": ONE}) == 0
    assert judged(text, {"objects": ONE}, span="answer_tag") == 1


def test_without_a_truth_there_is_no_opinion():
    assert judged("[0, 0, 100, 100]", {}) is None
