"""Reading, overlapping and matching boxes; and answers made to fool the reader."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.rewards import boxes
from sightline.rewards.boxes import (
    MAX_ANSWER_CHARACTERS,
    SPACES,
    LabelledBox,
    giou,
    iou,
    match_boxes,
    parse_boxes,
    read_boxes,
    to_frame,
    true_boxes,
)
from tests.effort import counted

MOST_STEPS = 1_000_000
"""Lines of Python for one answer of 20,000 characters, at most: fifty a character. Seconds: bench/reward_speed.py."""

RED = LabelledBox(label="red circle", box=(0.0, 0.0, 10.0, 10.0))
BLUE = LabelledBox(label="blue square", box=(20.0, 20.0, 30.0, 30.0))


def item(box: str, label: str = '"red circle"') -> str:
    return f'{{"bbox_2d": {box}, "label": {label}}}'


def boxed(*corners: float, label: str = "red circle") -> LabelledBox:
    x1, y1, x2, y2 = corners
    return LabelledBox(label=label, box=(x1, y1, x2, y2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ()),
        (f"[{item('[0, 0, 10, 10]')}]", (RED,)),
        (f"\n[ {item('[0.0, 0, 1e1, 10]')} ]\n", (RED,)),
        (f"[{item('[0, 0, 10, 10]', json.dumps(' Red Circle '))}]", (RED,)),
        ('[{"label": "red circle", "bbox_2d": [0, 0, 10, 10]}]', (RED,)),
        (f"[{item('[0, 0, 10, 10]')}, {item('[0, 0, 10, 10]')}]", (RED, RED)),
        (f"[{item('[-5, -5, 5, 5]')}]", (boxed(-5, -5, 5, 5),)),
    ],
)
def test_a_list_of_boxes_is_read(text, expected):
    assert parse_boxes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "{}",
        "42",
        '"[]"',
        "[",
        "[[]]",
        "[null]",
        "[1, 2, 3, 4]",
        item("[0, 0, 10, 10]"),
        f"Sure: [{item('[0, 0, 10, 10]')}]",
        f"[{item('[0, 0, 10, 10]')}] Anything else?",
        f"```json\n[{item('[0, 0, 10, 10]')}]\n```",
        '[{"bbox_2d": [0, 0, 10, 10]}]',
        '[{"label": "red circle"}]',
        '[{"bbox_2d": [0, 0, 10, 10], "label": "red circle", "score": 1}]',
        '[{"bbox_2d": [0, 0, 1, 1], "bbox_2d": [0, 0, 10, 10], "label": "red circle"}]',
        f"[{item('[0, 0, 10, 10]', 'null')}]",
        f"[{item('[0, 0, 10, 10]', '3')}]",
        f"[{item('[0, 0, 10]')}]",
        f"[{item('[0, 0, 10, 10, 10]')}]",
        f"[{item('[[0, 0], [10, 10]]')}]",
        f"[{item(json.dumps('0, 0, 10, 10'))}]",
        f"[{item(json.dumps({'x1': 0, 'y1': 0, 'x2': 10, 'y2': 10}))}]",
        f"[{item(json.dumps(['0', '0', '10', '10']))}]",
        f"[{item('[false, false, true, true]')}]",
        f"[{item('[null, 0, 10, 10]')}]",
        f"[{item('[10, 0, 0, 10]')}]",
        f"[{item('[0, 10, 10, 0]')}]",
        f"[{item('[0, 0, 0, 10]')}]",
        f"[{item('[0, 0, 10, 0]')}]",
        f"[{item('[NaN, 0, 10, 10]')}]",
        f"[{item('[0, 0, Infinity, 10]')}]",
        f"[{item('[-Infinity, 0, 10, 10]')}]",
        f"[{item('[0, 0, 1e999, 10]')}]",
        f"[{item('[0, 0, 1e6, 10]')}]",
        '[{"bbox_2d": [0, 0, \u0661\u0660, 10], "label": "red circle"}]',
        '[{"bbox_2d": [0, 0, \uff11\uff10, 10], "label": "red circle"}]',
        f"[{item('[0, 0, 0x10, 10]')}]",
        f"[{item('[0, 0, 10, ' + '9' * 5000 + ']')}]",
        f"[{item('[0, 0, 10, ' + '9' * 10**6 + ']')}]",
        f"[{item('[0, 0, 10, 0.' + '9' * 10**6 + ']')}]",
        "[" * 10_000 + "]" * 10_000,
        "[" * 10**6,
        '{"a":' * 3_000,
        f"[{item('[0, 0, 10, 10]')}, {item('[10, 0, 0, 10]')}]",
        "[" + ", ".join([item("[0, 0, 10, 10]")] * 1000) + "]",
    ],
    ids=lambda text: text[:40],
)
def test_anything_else_is_no_answer_and_costs_few_steps(text):
    found, steps = counted(lambda: parse_boxes(text))
    assert found is None
    assert steps < MOST_STEPS


def test_an_answer_as_long_as_allowed_is_read():
    many = f"[{', '.join([item('[0, 0, 10, 10]')] * 350)}]"
    assert len(many) < MAX_ANSWER_CHARACTERS
    assert len(parse_boxes(many) or ()) == 350


@given(text=st.text(max_size=100) | st.recursive(st.none() | st.booleans() | st.floats(), st.lists).map(json.dumps))
def test_any_text_is_read_without_an_error(text):
    found = parse_boxes(text)
    assert found is None or all(one.box[0] < one.box[2] and one.box[1] < one.box[3] for one in found)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (0, 0, 10, 5), 1 / 2),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (5, 5, 15, 15), 1 / 7),
        ((0, 0, 10, 10), (2, 2, 4, 4), 4 / 100),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0),
        ((0, 0, 10, 10), (-1e5, -1e5, 1e5, 1e5), 100 / 4e10),
    ],
)
def test_intersection_over_union_by_hand(first, second, expected):
    assert iou([first], [second])[0, 0] == pytest.approx(expected)
    assert iou([second], [first])[0, 0] == pytest.approx(expected)


def test_overlap_of_several_with_several_and_with_none():
    both = [RED.box, BLUE.box]
    np.testing.assert_allclose(iou(both, both), np.eye(2))
    assert iou([], both).shape == (0, 2)
    assert iou(both, []).shape == (2, 0)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([], []),
        ([RED, BLUE], [(0, 0, 1.0), (1, 1, 1.0)]),
        ([BLUE, RED], [(0, 1, 1.0), (1, 0, 1.0)]),
        ([RED, RED, RED], [(0, 0, 1.0)]),
        ([boxed(0, 0, 10, 10, label="blue square")], []),
        ([boxed(40, 40, 50, 50)], []),
        ([boxed(0, 0, 10, 5), RED], [(1, 0, 1.0)]),
    ],
)
def test_boxes_match_one_to_one_within_their_label(predicted, expected):
    assert match_boxes(predicted, [RED, BLUE]) == expected


def test_labels_may_be_left_aside():
    swapped = [boxed(0, 0, 10, 10, label="blue square")]
    assert match_boxes(swapped, [RED, BLUE], labels_count=False) == [(0, 0, 1.0)]


def test_matching_takes_the_greatest_total_overlap_not_the_first_best():
    true = [boxed(0, 0, 10, 10), boxed(6, 0, 16, 10)]
    predicted = [boxed(3.5, 0, 13.5, 10), boxed(9, 0, 19, 10)]
    overlap = iou([box.box for box in predicted], [box.box for box in true])
    assert overlap.argmax() == 1  # the first is nearest to the second true box
    assert [(p, t) for p, t, _ in match_boxes(predicted, true)] == [(0, 0), (1, 1)]


def test_spam_matches_no_more_than_there_is():
    spam = [boxed(x, y, x + 10, y + 10) for x in range(-9, 10) for y in range(-9, 10)]
    matches, steps = counted(lambda: match_boxes(spam, [RED, BLUE]))
    assert [(true, overlap) for _, true, overlap in matches] == [(0, 1.0)]
    assert steps < MOST_STEPS


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (0, 0, 10, 5), 1 / 2),
        ((0, 0, 10, 10), (5, 5, 15, 15), 1 / 7 - 50 / 225),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((0, 0, 10, 10), (20, 0, 30, 10), -1 / 3),
        ((0, 0, 1, 1), (99, 99, 100, 100), 2 / 10_000 - 1),
    ],
)
def test_generalised_overlap_by_hand(first, second, expected):
    assert giou([first], [second])[0, 0] == pytest.approx(expected)
    assert giou([second], [first])[0, 0] == pytest.approx(expected)


corner = st.integers(0, 60)
box = st.tuples(corner, corner, st.integers(1, 40), st.integers(1, 40)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
labelled = st.builds(lambda b, label: boxed(*b, label=label), box, st.sampled_from("ab"))


@given(first=box, second=box, x=st.floats(0.1, 9), y=st.floats(0.1, 9))
def test_overlaps_are_bounded_and_do_not_depend_on_the_frame(first, second, x, y):
    plain, general = iou([first], [second])[0, 0], giou([first], [second])[0, 0]
    assert -1 < general <= plain <= 1
    scaled = [[(b[0] * x, b[1] * y, b[2] * x, b[3] * y)] for b in (first, second)]
    assert giou(*scaled)[0, 0] == pytest.approx(general)


@given(predicted=st.lists(labelled, max_size=6), true=st.lists(labelled, max_size=6), labels_count=st.booleans())
def test_the_quick_way_to_match_finds_the_total_of_the_full_way(predicted, true, labels_count):
    quick = match_boxes(predicted, true, labels_count=labels_count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "FEW_PAIRS", 0)
        full = match_boxes(predicted, true, labels_count=labels_count)
    assert sum(overlap for *_, overlap in quick) == pytest.approx(sum(overlap for *_, overlap in full))


@pytest.mark.parametrize(
    ("text", "num_boxes", "num_items", "well_formed"),
    [
        ("[]", 0, 0, True),
        (f"[{item('[0, 0, 10, 10]')}]", 1, 1, True),
        (f"```json\n[{item('[0, 0, 10, 10]')}]\n```", 1, 1, True),
        (f"  ```json [{item('[0, 0, 10, 10]')}]```\n", 1, 1, True),
        (f"```\n[{item('[0, 0, 10, 10]')}]\n```", 0, 0, False),
        (f"Here: ```json\n[{item('[0, 0, 10, 10]')}]\n```", 0, 0, False),
        (f"```json\n[{item('[0, 0, 10, 10]')}]\n``` Done.", 0, 0, False),
        (f"```json\n[{item('[0, 0, 10, 10]')}]\n```\n```json\n[]\n```", 0, 0, False),
        (f"```json\n[{item('[0, 0, 10, 10]')}]", 0, 0, False),
        (f"[{item('[0, 0, 10, 10]')}, {item('[10, 0, 0, 10]')}, 7]", 1, 3, False),
        (f"[{item('[0, 0, 10, 10]')}, {item('[0, 0, NaN, 10]')}]", 0, 0, False),
        ("{}", 0, 0, False),
        ("", 0, 0, False),
        ("[" * 10_000, 0, 0, False),
    ],
)
def test_an_answer_is_read_as_a_whole_and_its_faults_are_counted(text, num_boxes, num_items, well_formed):
    answer = read_boxes(text)
    assert (len(answer.boxes), answer.num_items, answer.well_formed) == (num_boxes, num_items, well_formed)


def test_confidences_are_read_where_they_may_stand():
    sure = '{"bbox_2d": [0, 0, 10, 10], "label": "red circle", "confidence": 0.25}'
    answer = read_boxes(f"[{sure}, {item('[0, 0, 10, 10]')}]", with_confidence=True)
    assert answer.boxes == (RED, RED)
    assert answer.confidences == (0.25, 1.0)
    assert not read_boxes(f"[{sure}]").well_formed
    for wrong in ("2", "-1", '"1"', "true", "null"):
        assert not read_boxes(f"[{sure.replace('0.25', wrong)}]", with_confidence=True).well_formed


@given(text=st.text(max_size=100) | st.recursive(st.none() | st.booleans() | st.floats(), st.lists).map(json.dumps))
def test_reading_agrees_with_the_strict_reader(text):
    answer, strict = read_boxes(text), parse_boxes(text)
    assert answer.well_formed == (strict is not None)
    assert answer.boxes == (strict or ())


@pytest.mark.parametrize(
    ("space", "target", "expected"),
    [
        ("original", "original", (100, 50, 200, 100)),
        ("seen", "original", (200, 50, 400, 100)),
        ("original", "seen", (50, 50, 100, 100)),
        ("thousand", "original", (80, 20, 160, 40)),
        ("seen", "thousand", (250, 125, 500, 250)),
    ],
)
def test_boxes_move_between_frames(space, target, expected):
    [moved] = to_frame([(100, 50, 200, 100)], space, image_size=(800, 400), seen_size=(400, 400), target=target)
    assert moved == pytest.approx(expected)


def test_shares_of_the_picture_and_pictures_seen_as_stored():
    assert to_frame([(0, 0.5, 0.25, 1)], "unit", image_size=(800, 400)) == [(0, 200, 200, 400)]
    assert to_frame([RED.box], "seen", image_size=None) == [RED.box]
    assert to_frame([RED.box], "seen", image_size=(80, 40), seen_size=None) == [RED.box]


@given(first=box, there=st.sampled_from(SPACES), back=st.sampled_from(SPACES))
def test_a_box_comes_back_from_any_frame(first, there, back):
    sizes = {"image_size": (640, 480), "seen_size": (644, 476)}
    away = to_frame([first], there, target=back, **sizes)
    assert to_frame(away, back, target=there, **sizes)[0] == pytest.approx(first)


@pytest.mark.parametrize(
    ("space", "image_size", "says"),
    [
        ("seen", None, r"'original' need the picture's size.*give the picture's width and height"),
        ("thousand", None, "give the picture's width and height"),
        ("sene", (10, 10), "did you mean seen"),
        ("unit", (0, 10), "is 0 x 10; give its width and height"),
    ],
)
def test_a_frame_without_a_size_says_what_to_give(space, image_size, says):
    with pytest.raises(ValueError, match=says):
        to_frame([RED.box], space, image_size=image_size, seen_size=(20, 20))


def test_the_truth_is_read_or_refused():
    objects = [{"label": " Red Circle", "box": [0, 0, 10, 10]}, {"label": "red circle", "box": (0.0, 0, 10, 10)}]
    assert true_boxes({"objects": objects}) == [RED, RED]
    assert true_boxes({"objects": []}) == true_boxes({"num_instances": 0}) == []
    assert true_boxes({}) is None
    for wrong in ({"label": "cat", "box": [9, 0, 0, 9]}, {"label": "cat"}, {"box": [0, 0, 9, 9]}, 3):
        with pytest.raises(ValueError, match=r"give \{label, box"):
            true_boxes({"objects": [wrong]})
    with pytest.raises(ValueError, match="give a list"):
        true_boxes({"objects": "cat"})
