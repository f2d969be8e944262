"""What a gain consists of: each change alone by hand, and shares that add up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.evaluation.gain import box_gain
from sightline.evaluation.metrics import mean_average_precision
from sightline.rewards.boxes import LabelledBox

TRUE = [[LabelledBox(label="cat", box=(0, 0, 10, 10)), LabelledBox(label="dog", box=(50, 50, 60, 60))]]


def said(*boxes):
    return [json.dumps([{"bbox_2d": list(box), "label": label} for label, box in boxes])]


CAT, DOG = ("cat", (0, 0, 10, 10)), ("dog", (50, 50, 60, 60))
LOOSE_CAT, FALSE_CAT = ("cat", (0, 0, 10, 6)), ("cat", (30, 30, 40, 40))


def test_an_object_found_is_all_of_the_gain():
    gain = box_gain(said(CAT), said(CAT, DOG), TRUE)
    assert (gain.before, gain.after) == pytest.approx((0.5, 1.0))
    assert gain.shares == pytest.approx({"found": 0.5, "placed": 0, "false": 0})
    assert (gain.counts["added"], gain.counts["lost"], gain.counts["better"]) == (1, 0, 0)


def test_a_box_placed_better_is_all_of_the_gain():
    gain = box_gain(said(LOOSE_CAT), said(CAT), TRUE)
    assert gain.shares == pytest.approx({"found": 0, "placed": 0.5 * 0.7, "false": 0})
    assert (gain.counts["better"], gain.counts["worse"]) == (1, 0)


def test_a_false_box_dropped_is_all_of_the_gain():
    gain = box_gain(said(CAT, FALSE_CAT), said(CAT), TRUE)
    assert gain.shares == pytest.approx({"found": 0, "placed": 0, "false": 0.25})
    assert (gain.counts["false_before"], gain.counts["false_after"]) == (1, 0)


def test_what_is_lost_counts_against_what_is_found():
    gain = box_gain(said(CAT), said(DOG), TRUE)
    assert gain.shares["found"] == pytest.approx(0)
    assert (gain.counts["added"], gain.counts["lost"]) == (1, 1)


def test_an_answer_that_is_no_list_of_boxes_hits_nothing():
    gain = box_gain(["no boxes"], said(CAT, DOG), TRUE)
    assert (gain.before, gain.shares["found"]) == (0, pytest.approx(1.0))


BOXES = st.lists(
    st.tuples(
        st.sampled_from(["cat", "dog", "cow"]), st.sampled_from([(0, 0, 10, 10), (0, 0, 10, 7), (50, 50, 60, 60)])
    ),
    max_size=4,
)


@given(pairs=st.lists(st.tuples(BOXES, BOXES), min_size=1, max_size=4))
def test_shares_add_up_to_the_gain_in_map(pairs):
    before, after = ([text for pair in pairs for text in said(*pair[side])] for side in (0, 1))
    true = TRUE * len(pairs)
    gain = box_gain(before, after, true)
    assert gain.before == pytest.approx(mean_average_precision(before, true, resamples=2).estimate)
    assert gain.after == pytest.approx(mean_average_precision(after, true, resamples=2).estimate)
    assert sum(gain.shares.values()) == pytest.approx(gain.after - gain.before)
