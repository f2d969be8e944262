"""The frame of boxes is found out from answers, and named only when it is clear."""

import pytest

from sightline.records import Completion
from sightline.rewards.boxes import SPACES, Space, to_frame
from sightline.rewards.contract import RewardContext
from sightline.rewards.frames import better_frame, mean_overlaps

TRUTH = {"objects": [{"label": "cat", "box": [40, 60, 240, 260]}, {"label": "dog", "box": [300, 100, 600, 400]}]}
CONTEXT = RewardContext(truth=TRUTH, image_size=(640, 480), seen_size=(320, 240))


def answer_in(space: Space) -> Completion:
    boxes = [tuple(map(float, item["box"])) for item in TRUTH["objects"]]
    moved = to_frame(boxes, "original", image_size=(640, 480), seen_size=(320, 240), target=space)  # type: ignore[arg-type]
    items = ", ".join(f'{{"bbox_2d": {list(box)}, "label": "it"}}' for box in moved)
    return Completion(text=f"[{items}]")


@pytest.mark.parametrize("space", SPACES)
def test_the_right_frame_fits_best_and_is_not_disputed(space: Space):
    answers = [(answer_in(space), CONTEXT)]
    found = mean_overlaps(answers)
    assert max(found, key=lambda name: found[name]) == space
    assert found[space] == pytest.approx(1)
    assert better_frame(answers, space) is None


def test_a_wrong_frame_is_named_with_its_cure():
    said = better_frame([(answer_in("thousand"), CONTEXT)], "seen")
    assert said is not None
    assert said.endswith("set the reward's option space to thousand")


def test_nothing_is_said_of_answers_without_boxes_or_truth_without_objects():
    assert better_frame([(Completion(text="a cat"), CONTEXT)], "seen") is None
    assert mean_overlaps([(answer_in("seen"), RewardContext(truth={"count": 3}, image_size=(640, 480)))]) == {}
