"""Rewards as others published them: what they compute, and how they are gamed."""

import json

import pytest

from sightline.records import Completion
from sightline.rewards.boxes import true_boxes
from sightline.rewards.contract import RewardContext
from sightline.rewards.detection import mean_average_precision, vision_r1, visual_rft
from sightline.rewards.published import published_visual_rft, released_vision_r1, vlm_r1_map

SIZE = (1000, 1000)


def objects(*boxes, label="cat"):
    return [{"label": label, "box": list(box)} for box in boxes]


def written(items):
    return json.dumps([{"bbox_2d": item["box"], "label": item["label"]} for item in items])


def released(text, truth, *, phase="off", num_objects=None, space="seen", **sizes):
    context = RewardContext(truth={"objects": truth}, **{"image_size": SIZE, **sizes})
    number = len(truth) if num_objects is None else num_objects
    parts = released_vision_r1(text, context, num_objects=number, phase=phase, space=space)
    return pytest.approx(tuple(parts.values()), abs=1e-6)


def paper(text, truth, *, phase="off"):
    context = RewardContext(truth={"objects": truth}, image_size=SIZE)
    score = vision_r1(Completion(text=text), context, mode="paper", phase=phase)
    return pytest.approx(tuple(score.parts.values()), abs=1e-6)


ONE = objects((0, 0, 100, 100))
EXACT = written(ONE)


def test_d1_generalised_iou_is_scored():
    answer = written(objects((10, 10, 110, 110)))
    assert paper(answer, ONE) == (1, 1, 8100 / 11900)
    assert released(answer, ONE) == (1, 1, 8100 / 11900 - 200 / 12100)
    far = written(objects((500, 500, 600, 600)))
    assert released(far, ONE) == (1, 0, 0)


def test_d2_the_class_only_breaks_ties():
    twice = [*objects((0, 0, 100, 100), label="dog"), *objects((0, 0, 100, 90))]
    truth = [*ONE, *objects((0, 0, 100, 90), label="dog")]
    assert released(written(twice), truth) == (1, 1, 1)  # by place, though both labels are then wrong


def test_d3_the_least_distance_may_be_the_lesser_overlap():
    answer = written(objects((0, 0, 100, 100)))
    truth = [*objects((0, 0, 160, 100)), *objects((12, 12, 88, 88))]
    assert paper(answer, truth) == (1, 0.5, 0.625)
    assert released(answer, truth) == (1, 0.5, 0.76 * 0.76)


def test_d4_boxes_beside_the_pairs_are_free():
    answer = written([*ONE, *objects((300, 300, 400, 400), (500, 0, 700, 700))])
    assert paper(answer, ONE) == (1, 1, 1 / 3)
    assert released(answer, ONE) == (1, 1, 1)


@pytest.mark.parametrize(
    ("share", "phase", "expected"),
    [
        (0.49, "early", (1, 0, 0)),
        (0.5, "early", (1, 0.5, 0.5)),
        (0.51, "early", (1, 1, 0.51)),
        (0.75, "early", (1, 1, 0.75)),
        (0.76, "early", (1, 1, 1)),
        (0.75, "late", (1, 0.75, 0.75)),
        (0.9, "late", (1, 1, 0.9)),
        (0.91, "late", (1, 1, 1)),
        (0.3, "off", (1, 0, 0.3)),
        (0.5, "off", (1, 0.5, 0.5)),
        (0.3, None, (1, 0, 0.3)),
    ],
)
def test_d5_d6_d9_thresholds_are_strict_and_off_is_the_default(share, phase, expected):
    assert released(written(objects((0, 0, 100 * share, 100))), ONE, phase=phase) == expected


@pytest.mark.parametrize(("found", "early", "late"), [(4, 0, 0), (5, 0.5, 0.5), (6, 0.6, 0.6), (8, 1, 1)])
def test_d7_the_thresholds_of_recall_itself_never_tighten(found, early, late):
    truth = objects(*[(100 * i, 0, 100 * i + 80, 80) for i in range(10)])
    answer = written(truth[:found])
    assert released(answer, truth, phase="early") == (1, early, 1)
    assert released(answer, truth, phase="late") == (1, late, 1)


def test_d8_the_phase_knows_no_share_of_the_run():
    answer = Completion(text=written(objects((0, 0, 60, 100))))
    for progress in (0.0, 1.0):
        context = RewardContext(truth={"objects": ONE}, image_size=SIZE, progress=progress)
        assert vision_r1(answer, context, mode="released").value == pytest.approx(2.6)


@pytest.mark.parametrize(
    "text",
    ["{}", "42", '"cat"', "[]", "[1, 2]", "NaN", '[{"box": 1}]', '[{"bbox_2d": 3}]', "```json\n[]\n```", " [] "]
    + [f'[{{"bbox_2d": {box}, "label": 0}}]' for box in ('["a", 0, 1, 2]', "[9, 9, 0, 0]", "[0, 0, 9999, 9999]")],
)
def test_d10_nearly_any_json_has_its_format(text):
    assert released(text, ONE).expected[0] == 1
    assert text.strip().startswith(("[]", "```")) or paper(text, ONE).expected[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        f"A cat: {EXACT}",
        f"```\n{EXACT}\n```",
        f"```json\n{EXACT}\n``` so",
        f"```json {EXACT}```",
        '[{"bbox_2d": 3, "label": 0}]',
        '[{"bbox_2d": [1, 2, 3], "label": 0}]',
    ],
)
def test_d10_text_outside_and_lists_not_of_four_have_not(text):
    assert released(text, ONE).expected[0] == 0


def test_d11_negatives_are_turned_round():
    assert released("[]", []) == (0, 1, 1)
    assert released("garbage", []) == (1, 1, 1)
    assert paper("[]", []) == (1, 1, 1)
    assert paper("garbage", []) == (0, 0, 0)
    with pytest.raises(ValueError, match="fails on a box where the truth has no object; leave"):
        released(EXACT, [])
    with pytest.raises(ValueError, match="make them agree"):
        released(written(objects((500, 500, 600, 600))), ONE, num_objects=0)
    assert released(EXACT, ONE, num_objects=4) == (1, 0.25, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"```json\n{EXACT}\n```", 1),
        (f"```json and so on\n{EXACT}\n``` Done.", 1),
        (f"{EXACT}``` Done.", 1),
        ('[{"bbox_2d": [0.9, 0.9, 100.9, 100.9], "label": "cat"}]', 1),
        ('[{"bbox_2d": ["0", " 0", "1_00", "100"], "label": "cat"}]', 1),
        ('[{"bbox_2d": [0, 0, 100, 100]}, 7, null, {"bbox_2d": [5, 5, 1, 1]}]', 1),
        ('[{"label": "cat", "bbox_2d": [0, 0, 100, 100]}]', 1),
        (f"I see {EXACT}", 1),
        (f"```\n{EXACT}\n```", 1),
        (f"{EXACT[:-1]}, {{", 1),
        (EXACT[1:-1], 1),
        ('A cat: {"bbox_2d": [0,0,100,100], "label": "cat"}', 0),
        ('A cat: {"label": "cat", "bbox_2d": [0, 0, 100, 100]}', 0),
        ('A cat: {"bbox_2d": [0, 0, 1001, 100], "label": "cat"}', 0),
        ('A cat: {"bbox_2d": [0, 0, 100.0, 100], "label": "cat"}', 0),
        ('A cat: {"bbox_2d": [0, 0, 100, 100], "label": ""}', 0),
        ('[{"bbox_2d": [0, 0, NaN, 100], "label": "cat"}]', 0),
        ('[{"bbox_2d": [0, 0, 1e400, 100], "label": "cat"}]', 0),
    ],
)
def test_what_is_read_and_what_the_fallback_finds(text, found):
    assert released(text, ONE).expected[1:] == (found, found)


def test_boxes_are_scaled_to_the_picture_and_never_clipped():
    truth, sizes = objects((100, 50, 300, 250)), {"image_size": (1000, 500), "seen_size": (500, 500)}
    assert released(written(objects((50, 50, 150, 250))), truth, **sizes) == (1, 1, 1)
    assert released(written(objects((100, 100, 300, 500))), truth, space="thousand", **sizes) == (1, 1, 1)
    assert released(written(objects((-100, 0, 100, 100))), ONE) == (1, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 9_000 + "]" * 9_000, "nested this deeply"),
        ("[" + "9" * 5_000 + "]", "numbers this long"),
        ('[{"bbox_2d": [0, 0, 1e20, 1e20], "label": "cat"}]', "coordinates this large"),
        ('[{"bbox_2d": [0, 0, 1' + "0" * 400 + ', 9], "label": "cat"}]', "coordinates this large"),
        ("x" * 200_001, "200001 characters"),
    ],
)
def test_where_the_code_fails_the_row_cannot_be_scored(text, says):
    with pytest.raises(ValueError, match=f"{says}.*; .*mode sightline"):
        released(text, ONE)


def vlm_r1(text, truth):
    context = RewardContext(truth={"objects": truth}, image_size=SIZE)
    return vlm_r1_map(text, true_boxes(context.truth), context, space="seen")


TWO = objects((0, 0, 100, 100), (200, 0, 300, 100))
WRONG = objects((500, 500, 600, 600))


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        (TWO, TWO, 1),
        (TWO[:1], TWO, 51 / 101),
        ([*TWO[:1], *WRONG], TWO, 51 / 101),
        ([*WRONG, *TWO[:1]], TWO, 51 / 101 / 2),
        (objects((0, 0, 72, 100)), ONE, 0.5),
        ([], [], 1),
        (ONE, [], 0),
        ([], ONE, 0),
    ],
)
def test_cocos_average_precision_by_hand(answer, truth, expected):
    assert vlm_r1(written(answer), truth) == (pytest.approx(expected), len(answer))


def test_the_map_of_vlm_r1_is_gamed_by_spam_after_the_boxes():
    spam = [*TWO, *TWO * 7, *WRONG, *[{"label": f"class {i}", "box": [1, 1, 5, 5]} for i in range(80)]]
    context = RewardContext(truth={"objects": TWO}, image_size=SIZE)
    assert mean_average_precision(Completion(text=written(spam)), context, form="vlm_r1") == 1
    assert mean_average_precision(Completion(text=written(spam)), context) < 0.03


def test_the_answer_of_vlm_r1_is_looked_for():
    text = f"<think>```json\n[]\n```</think><answer>As ```json\n{EXACT}\n``` says</answer>"
    assert vlm_r1(text, ONE) == (1, 1)
    assert vlm_r1("<answer>None</answer>", []) == (1, 0)
    assert vlm_r1('[{"bbox_2d": [0, 0, 100, 100]}, 7]', ONE) == (0, 2)


def rft(text, truth):
    context = RewardContext(truth={"objects": truth}, image_size=SIZE)
    parts = published_visual_rft(text, true_boxes(context.truth), context, space="seen")
    return pytest.approx(tuple(parts.values()))


def positions(*items):
    listed = ", ".join(f"{{'Position': {box}, 'Confidence': {sure}}}" for box, sure in items)
    return f"<think>Look.</think> <answer>[{listed}]</answer>"


A, B, FAR = [0, 0, 100, 100], [0, 0, 100, 60], [500, 500, 600, 600]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([(A, 0.9)], (0.5, 0.9, 1)),
        ([(A, 0.9)] * 8, (0.5, 0.9, 1)),
        ([(A, 0.5), (B, 0.9)], (0.3, 0.7, 1)),
        ([(A, 0.9), (FAR, 0.0)], (0.5, 0.95, 1)),
        ([(FAR, 1.0)], (0, 0, 1)),
        ([], (0, 0, 1)),
    ],
)
def test_visual_rft_by_hand(items, expected):
    assert rft(positions(*items), TWO) == expected


def test_visual_rft_is_gamed_by_wrong_labels_and_by_boxes_of_no_confidence():
    context = RewardContext(truth={"objects": TWO}, image_size=SIZE)
    dogs = Completion(text=f"<think>x</think><answer>{written(objects(A, [200, 0, 300, 100], label='dog'))}</answer>")
    assert visual_rft(dogs, context, form="published").value == 3
    assert visual_rft(dogs, context, span="answer_tag").value == 1
    unsure = [{"bbox_2d": [500 + i, 500, 600, 600], "label": "cat", "confidence": 0} for i in range(50)]
    text = Completion(text=f"<think>x</think><answer>{json.dumps(unsure)}</answer>")
    assert visual_rft(text, context, form="published").parts["confidence"] == 1
    assert visual_rft(text, context, span="answer_tag").parts["confidence"] == 0


def test_visual_rft_mends_a_cut_answer_and_refuses_nan():
    assert rft(positions((A, 0.9), (FAR, 0.9)).partition("}, ")[0] + "}, {'Posi", TWO) == (0.5, 0.9, 0)
    assert rft("[1, 2]", TWO) == (0, 0, 0)
    assert rft("", TWO) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"a confidence is NaN.*use form fixed"):
        rft(positions((A, "NaN")), TWO)
