"""Reading, overlapping and matching boxes; and answers made to fool the reader."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.rewards.boxes import MAX_ANSWER_CHARACTERS, LabelledBox, iou, match_boxes, parse_boxes

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
def test_anything_else_is_no_answer_and_costs_no_time(text):
    began = time.process_time()
    assert parse_boxes(text) is None
    assert time.process_time() - began < 1


def test_an_answer_as_long_as_allowed_is_read():
    many = f"[{', '.join([item('[0, 0, 10, 10]')] * 350)}]"
    assert len(many) < MAX_ANSWER_CHARACTERS
    assert len(parse_boxes(many) or ()) == 350


@given(text=st.text(max_size=100) | st.recursive(st.none() | st.booleans() | st.floats(), st.lists).map(json.dumps))
def test_any_text_is_read_without_an_error(text):
    boxes = parse_boxes(text)
    assert boxes is None or all(box.box[0] < box.box[2] and box.box[1] < box.box[3] for box in boxes)


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
    boxes = [RED.box, BLUE.box]
    np.testing.assert_allclose(iou(boxes, boxes), np.eye(2))
    assert iou([], boxes).shape == (0, 2)
    assert iou(boxes, []).shape == (2, 0)


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
    began = time.process_time()
    matches = match_boxes(spam, [RED, BLUE])
    assert [(true, overlap) for _, true, overlap in matches] == [(0, 1.0)]
    assert time.process_time() - began < 1
