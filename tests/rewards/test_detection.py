"""Box rewards: values by hand, the law that joins the modes of Vision-R1, and answers made to fool them."""

import json
import math
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sightline.records import Completion
from sightline.rewards.contract import RewardContext, Score
from sightline.rewards.detection import (
    PHASES,
    box_f1,
    mean_average_precision,
    od_length,
    vision_r1,
    visual_rft,
)
from sightline.rewards.grounding import rec_iou
from tests.effort import counted

MOST_STEPS = 1_000_000
"""Lines of Python for one answer of 20,000 characters, at most: fifty a character. Seconds: bench/reward_speed.py."""

REWARDS = (vision_r1, mean_average_precision, od_length, visual_rft, box_f1)
SIZE = (1000, 1000)


def objects(*boxes, label="cat"):
    return [{"label": label, "box": list(box)} for box in boxes]


def row(num, *, label="cat"):
    """Boxes of 80 x 80, far from one another."""
    return objects(
        *[(200 * (i % 5), 200 * (i // 5), 200 * (i % 5) + 80, 200 * (i // 5) + 80) for i in range(num)], label=label
    )


def written(items):
    return json.dumps([{"bbox_2d": item["box"], "label": item["label"]} for item in items])


def about(truth, **more):
    context = {"image_size": SIZE, **more}
    return RewardContext(truth={"objects": truth} if isinstance(truth, list) else truth, **context)


def judged(reward, text, truth, *, context=None, **options):
    text = text if isinstance(text, str) else written(text)
    given_score = reward(Completion(text=text), context or about(truth), **options)
    return given_score.value if isinstance(given_score, Score) else given_score


def parts(text, truth, *, context=None, **options):
    """Format, recall and precision, which the charge leaves as they are."""
    text = text if isinstance(text, str) else written(text)
    score = vision_r1(Completion(text=text), context or about(truth), **options)
    assert score.value == pytest.approx(sum(score.parts.values()))
    assert score.parts.get("charge", 0.0) <= 0
    return pytest.approx(tuple(score.parts[name] for name in ("format", "recall", "precision")), abs=1e-6)


def spam(num, *, label="cat", seed=0):
    draw = random.Random(seed)
    corners = [(draw.randint(0, 900), draw.randint(0, 900)) for _ in range(num)]
    return objects(*[(x, y, x + draw.randint(5, 100), y + draw.randint(5, 100)) for x, y in corners], label=label)


ONE = objects((0, 0, 100, 100))
FIVE = row(5)


def overlapping(share):
    """A box inside the one object, with this IoU, which is the GIoU too."""
    return objects((0, 0, 100 * share, 100))


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        (FIVE, FIVE, (1, 1, 1)),
        (FIVE[:4], FIVE, (1, 0.8, 1)),
        ([], FIVE, (1, 0, 0)),
        ([], [], (1, 1, 1)),
        (ONE, [], (1, 0, 0)),
        ("", [], (0, 0, 0)),
        ("none", [], (0, 0, 0)),
        ("{}", [], (0, 0, 0)),
        ("[7]", [], (0, 0, 0)),
        ([*FIVE, *FIVE], FIVE, (0, 1, 0.5)),
        ([*FIVE, *row(5, label="dog")], FIVE, (1, 1, 0.5)),
        (objects((0, 0, 100, 100), label="dog"), ONE, (1, 0, 0)),
        (objects((0, 0, 100, 100), label=" CAT "), ONE, (1, 1, 1)),
        (overlapping(0.49), ONE, (1, 0.98**2, 0.49)),
        (overlapping(0.6), ONE, (1, 1, 0.6)),
        (objects((-1, 0, 99, 100)), ONE, (0, 1, 9900 / 10100)),
        (objects((0, 0, 1001, 100)), ONE, (0, (2 / 10.01) ** 2, 1 / 10.01)),
        (
            '[{"bbox_2d": [0, 0, 100, 100], "label": "cat"}, {"bbox_2d": [9, 0, 0, 9], "label": "cat"}]',
            ONE,
            (0, 1, 0.5),
        ),
        (
            '[{"bbox_2d": [0, 0, 100, 100], "label": "cat"}, {"bbox_2d": [0, 0, NaN, 9], "label": "cat"}]',
            ONE,
            (0, 0, 0),
        ),
        ('[{"bbox_2d": [0, 0, 100, 100]}]', ONE, (0, 0, 0)),
        (written(ONE)[:-2], ONE, (0, 0, 0)),
        (f"```json\n{written(ONE)}\n```", ONE, (1, 1, 1)),
        (f"```\n{written(ONE)}\n```", ONE, (0, 0, 0)),
        (f"Here it is: {written(ONE)}", ONE, (0, 0, 0)),
        (written(ONE) * 2, ONE, (0, 0, 0)),
    ],
)
def test_our_vision_r1_without_differentiation(answer, truth, expected):
    assert parts(answer, truth, phase="off") == expected


@pytest.mark.parametrize(
    ("share", "phase", "expected"),
    [
        (0.5, "early", (1, 1, 0.5)),
        (0.74, "early", (1, 1, 0.74)),
        (0.75, "early", (1, 1, 1)),
        (0.75, "late", (1, 1, 0.75)),
        (0.89, "late", (1, 1, 0.89)),
        (0.9, "late", (1, 1, 1)),
    ],
)
def test_thresholds_belong_to_the_better_side(share, phase, expected):
    assert parts(overlapping(share), ONE, phase=phase) == expected


@pytest.mark.parametrize(("share", "phase", "low"), [(0.49, "early", 0.5), (0.25, "early", 0.5), (0.74, "late", 0.75)])
def test_below_a_threshold_ever_less_is_earned_and_in_the_paper_nothing(share, phase, low):
    found = (share / low) ** 2
    recall = found if found >= PHASES[phase].full_from else found * min(1, found / low) ** 2
    expected = (1, 1 if recall >= PHASES[phase].full_from else recall, share * found)
    assert parts(overlapping(share), ONE, phase=phase) == expected
    assert parts(overlapping(share), ONE, mode="paper", phase=phase) == (1, 0, 0)


@pytest.mark.parametrize("phase", list(PHASES))
@given(shares=st.lists(st.integers(1, 20), min_size=2, max_size=2, unique=True))
def test_a_better_box_always_earns_more(phase, shares):
    worse, better = (
        vision_r1(Completion(text=written(overlapping(share / 20))), about(ONE), phase=phase).value
        for share in sorted(shares)
    )
    full = PHASES[phase].full_from
    assert worse < better or min(shares) / 20 >= full


@pytest.mark.parametrize(
    ("answer", "truth", "value"),
    [
        (FIVE, FIVE, 3),
        (FIVE[:4], FIVE, 1 + 1 + 0.8),
        ([], FIVE, 0),
        ([], [], 3),
        (ONE, [], 0),
        ([*FIVE, *objects((900, 900, 950, 950))], FIVE, 5 / 6 * (1 + 1 + 5 / 6)),
        ([*FIVE, *row(5, label="dog")], FIVE, 5 / 10 * (1 + 1 + 5 / 10)),
        ([*FIVE[:4], *objects((900, 900, 950, 950))], FIVE, 1 + 1 + 4 / 6),
        (row(20)[:1], row(20), 1 + 0.05 * 0.1**2 + 0.05),
        ("[7]", FIVE, 0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_wrong_number_of_boxes_is_charged(answer, truth, value):
    assert judged(vision_r1, answer, truth, phase="early") == pytest.approx(value)


def shrunk(items, share):
    return [{**item, "box": [*item["box"][:2], item["box"][0] + 80 * share, item["box"][3]]} for item in items]


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("num", [3, 5, 9, 20])
def test_at_no_time_of_a_run_does_less_earn_more(num, progress):
    truth = row(num)
    context = about(truth, progress=progress)
    honest = judged(vision_r1, shrunk(truth[1:], 0.7), truth, context=context)
    far = objects((900, 900, 950, 950), label="dog")
    for attack in (
        [],
        truth[:1],
        far,
        [*truth, *row(num, label="dog")],
        [*truth, *[{**item, "box": [c + 90 for c in item["box"]]} for item in truth]],
        [*shrunk(truth[1:], 0.7), *far],
        [{**item, "box": [0, 0, 1000, 1000]} for item in truth],
    ):
        assert judged(vision_r1, attack, truth, context=context) < honest
    for share in (0.74, 0.45, 0.3):
        poor = judged(vision_r1, shrunk(truth, share), truth, context=context)
        assert 0 == judged(vision_r1, [], truth, context=context) < poor
    crowded = [*shrunk(truth[: num // 2], 0.8), *far]
    assert (
        judged(vision_r1, shrunk(truth[:1], 0.8), truth, context=context)
        < judged(vision_r1, crowded, truth, context=context)
        or num < 5
    )


@pytest.mark.parametrize(("found", "early", "late"), [(4, 0, 0), (5, 0.5, 0), (7, 0.7, 0), (8, 1, 0.8), (9, 1, 1)])
def test_recall_is_differentiated_as_a_whole(found, early, late):
    for phase, expected, low in (("early", early, 0.5), ("late", late, 0.75)):
        assert parts(row(10)[:found], row(10), mode="paper", phase=phase) == (1, expected, 1)
        falling = found / 10 * (found / 10 / low) ** 2
        assert parts(row(10)[:found], row(10), phase=phase) == (1, expected or falling, 1)


@pytest.mark.parametrize(
    ("second", "form"), [((0, 0, 100, 100), 0), ((0, 0, 90, 100), 0), ((50, 0, 100, 100), 0), ((51, 0, 100, 100), 1)]
)
def test_an_object_boxed_twice_costs_the_format(second, form):
    twice = [*ONE, *objects(second)]
    for phase in PHASES:
        assert parts(twice, ONE, phase=phase) == (form, 1, 0.5)
        assert parts(twice[::-1], ONE, phase=phase) == (form, 1, 0.5)
        assert parts(twice, ONE, mode="paper", phase=phase) == (1, 1, 0.5)
    other = [*ONE, *objects(second, label="dog")]
    assert parts(other, ONE, phase="off") == (1, 1, 0.5)
    assert parts(other, other, phase="off") == (1, 1, 1)


@pytest.mark.parametrize("space", ["seen", "original", "thousand"])
def test_a_box_given_twice_is_seen_in_any_frame(space):
    context = about(ONE, seen_size=(500, 250))
    answers = {"seen": (0, 0, 50, 25), "original": (0, 0, 100, 100), "thousand": (0, 0, 100, 100)}
    assert parts(objects(answers[space]) * 2, ONE, context=context, space=space) == (0, 1, 0.5)


def test_objects_that_lie_on_each_other_may_be_told_both():
    truth = objects((0, 0, 100, 100), (1, 0, 101, 100))
    assert parts(truth, truth) == (1, 1, 1)
    crossing = objects((0, 0, 100, 100), (20, 0, 120, 100))
    assert parts(crossing, crossing) == (1, 1, 1)


@pytest.mark.parametrize("num", [2, 3, 4, 7])
@pytest.mark.parametrize("moved", [0, 2, 8, 24, 39])
def test_every_box_twice_earns_less_than_an_honest_answer(num, moved):
    truth = row(num)
    again = [{**item, "box": [item["box"][0] + moved, *item["box"][1:]]} for item in truth]
    honest = [{**item, "box": [*item["box"][:2], item["box"][2] - 24, item["box"][3]]} for item in truth[1:]]
    for phase in ("off", "early"):
        assert judged(vision_r1, truth + again, truth, phase=phase) < judged(vision_r1, honest, truth, phase=phase)


def test_a_threshold_is_met_in_any_frame():
    truth = objects((0, 0, 1000, 700))
    for seen in ((644, 476), (840, 476), (37, 53), (333, 777)):
        answer = objects((0, 0, 0.75 * seen[0], seen[1] * 0.7))
        assert parts(answer, truth, context=about(truth, seen_size=seen), phase="early") == (1, 1, 1)


def test_boxes_are_read_in_the_frame_that_the_option_names():
    truth, sizes = objects((100, 50, 300, 250)), {"image_size": (1000, 500), "seen_size": (500, 500)}
    frames = {"seen": (50, 50, 150, 250), "original": (100, 50, 300, 250), "thousand": (100, 100, 300, 500)}
    for space, box in {**frames, "unit": (0.1, 0.1, 0.3, 0.5)}.items():
        for mode in ("sightline", "paper"):
            assert parts(objects(box), truth, context=about(truth, **sizes), mode=mode, space=space) == (1, 1, 1)
        for reward in REWARDS[1:]:
            assert judged(reward, objects(box), truth, context=about(truth, **sizes), space=space) in (1, 3)
    wrong = parts(objects(frames["thousand"]), truth, context=about(truth, **sizes), space="unit", phase="off")
    assert wrong == (0, 0, 0)


@pytest.mark.parametrize("mode", ["sightline", "paper"])
def test_the_phase_follows_the_progress_unless_it_is_given(mode):
    answer = overlapping(0.6)
    for progress, step, expected in [(0.49, 0.5, 1), (0.5, 0.5, 0), (1.0, 1.0, 1), (0.4, 1 / 3, 0), (0.0, 0.0, 0)]:
        context = about(ONE, progress=progress)
        early, late = (parts(answer, ONE, context=context, mode=mode, phase=phase) for phase in ("early", "late"))
        assert parts(answer, ONE, context=context, mode=mode, step=step) == (early if expected else late).expected
        assert parts(answer, ONE, context=context, mode=mode, step=step, phase="early") == (1, 1, 0.6)
        assert late.expected < (1, 0.5, 0.6)


def test_the_lines_can_be_moved_one_by_one():
    answer = overlapping(0.6)
    missed = (0.6 / 0.7) ** 2
    for mode, kept in (("sightline", missed), ("paper", 0.0)):
        moved = {"phase": "early", "mode": mode}
        assert parts(answer, ONE, valid_from=0.7, **moved) == (1, kept, 0.6)
        assert parts(answer, ONE, none_below=0.7, **moved) == (1, 1, 0.6 * kept)
        assert parts(answer, ONE, full_from=0.6, **moved) == (1, 1, 1)
    assert parts(answer, ONE, phase="late", valid_from=0.5, none_below=0.5, full_from=0.75) == (1, 1, 0.6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "papre"}, "did you mean paper"),
        ({"phase": "advanced"}, "known are off, early, late"),
        ({"mode": "released", "phase": "beginner"}, "known are off, early, late"),
        ({"step": 1500}, "step is 1500; give a number from 0 to 1"),
        ({"none_below": 0.8, "phase": "early"}, r"none_below is 0.8 and full_from 0.75 \(phase early\)"),
        ({"full_from": 75}, "full_from is 75; give a number from 0 to 1"),
        ({"mode": "released", "full_from": 0.9}, "remove full_from, or use mode sightline"),
        ({"space": "pixels"}, "known are seen, original"),
    ],
)
def test_wrong_options_say_the_cure(options, says):
    with pytest.raises(ValueError, match=says):
        judged(vision_r1, ONE, ONE, **options)


@pytest.mark.parametrize("mode", ["sightline", "paper", "released"])
def test_a_picture_of_unknown_size_says_what_to_give(mode):
    with pytest.raises(ValueError, match="give the picture's width and height"):
        judged(vision_r1, ONE, ONE, context=about(ONE, image_size=None), mode=mode)


def test_objects_that_are_counted_but_not_listed_are_missed():
    truth = {"objects": FIVE, "num_instances": 10}
    for mode in ("sightline", "paper", "released"):
        assert parts(FIVE, truth, mode=mode, phase="off") == (1, 0.5, 1)
    assert parts(FIVE, {"objects": FIVE, "num_instances": 4}, phase="off") == (1, 1, 1)
    assert parts([], {"num_instances": 0}) == (1, 1, 1)
    with pytest.raises(ValueError, match="num_instances is -1; give a whole number"):
        judged(vision_r1, FIVE, {"objects": FIVE, "num_instances": -1})


@pytest.mark.parametrize("reward", REWARDS)
def test_without_a_truth_there_is_no_opinion(reward):
    assert judged(reward, FIVE, {"count": 3}) is None


STEPS = [k / 20 for k in range(1, 21) if k not in (10, 15, 18)]
"""IoU with a nested box: none of them on a threshold."""


@settings(max_examples=150, deadline=None)
@given(
    shares=st.lists(st.sampled_from([*STEPS, None]), min_size=1, max_size=10),
    phase=st.sampled_from(list(PHASES)),
    labels=st.lists(st.sampled_from(["cat", "dog"]), min_size=10, max_size=10),
    seed=st.integers(0, 99),
    fence=st.booleans(),
)
def test_all_modes_agree_on_good_answers_between_the_thresholds(shares, phase, labels, seed, fence):
    truth = [{**item, "label": label} for item, label in zip(row(len(shares)), labels, strict=False)]
    answer = []
    for item, share in zip(truth, shares, strict=True):
        x1, y1, _, y2 = item["box"]
        if share is not None:
            answer.append({**item, "box": [x1, y1, x1 + round(80 * share), y2]})
    random.Random(seed).shuffle(answer)
    text = f"```json\n{written(answer)}\n```" if fence else written(answer)
    valid = sum(share is not None and share >= PHASES[phase].valid_from for share in shares) / len(shares)
    assume(phase == "off" or valid not in (0.5, 0.75))  # strict in the released code
    assume(phase != "late" or not 0.5 <= valid < 0.9)  # its thresholds for recall stay at the early ones
    papers = vision_r1(Completion(text=text), about(truth), phase=phase, mode="paper")
    assert parts(text, truth, mode="released", phase=phase) == tuple(papers.parts.values())
    rule = PHASES[phase]
    above = all(share is None or share >= max(rule.valid_from, rule.none_below) for share in shares)
    if above and (valid >= rule.none_below or valid == 0):
        assert parts(text, truth, phase=phase) == tuple(papers.parts.values())
    if above and None not in shares:
        assert judged(vision_r1, text, truth, phase=phase) == pytest.approx(papers.value)


def test_where_the_modes_part_on_the_very_threshold():
    half, most = overlapping(0.5), overlapping(0.75)
    assert parts(half, ONE, mode="paper", phase="early") == (
        1,
        0,
        0.5,
    )  # recall wants more than 0.5, precision does not
    assert parts(half, ONE, mode="released", phase="early") == (1, 0.5, 0.5)
    assert parts(most, ONE, mode="paper", phase="early") == (1, 1, 1)
    assert parts(most, ONE, mode="released", phase="early") == (1, 1, 0.75)
    assert parts(row(4)[:3], row(4), mode="paper", phase="early") == (1, 1, 1)
    assert parts(row(4)[:3], row(4), mode="released", phase="early") == (1, 0.75, 1)


BLIND = {
    "a hundred boxes at random": [*FIVE, *spam(100)],
    "every box eight times": FIVE * 8,
    "every label wrong": row(5, label="zebra"),
    "every label of another": [*row(3, label="dog"), *row(5)[3:]],
}


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("phase", list(PHASES))
def test_what_the_released_code_cannot_see_costs_with_us(name, phase):
    truth = FIVE if "another" not in name else [*row(3), *row(5, label="dog")[3:]]
    assert judged(vision_r1, BLIND[name], truth, mode="released", phase=phase) == pytest.approx(3)
    ours = judged(vision_r1, BLIND[name], truth, phase=phase)
    assert ours < 2.13
    honest = judged(vision_r1, FIVE[:4], FIVE, phase=phase)
    assert ours < honest


def test_the_paper_counts_all_boxes_and_no_labels():
    assert parts([*FIVE, *spam(100)], FIVE, mode="paper", phase="early") == (1, 1, 5 / 105)
    assert parts(row(5, label="zebra"), FIVE, mode="paper", phase="early") == (1, 1, 1)
    assert parts([], [], mode="paper") == (1, 1, 1)


def test_answers_may_stand_in_answer_tags():
    text = f"<think>A cat.</think><answer>{written(ONE)}</answer>"
    for reward in (mean_average_precision, od_length, visual_rft, box_f1):
        assert judged(reward, text, ONE) == 0
        assert judged(reward, text, ONE, span="answer_tag") in (1, 3)


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        (FIVE, FIVE, 1),
        (FIVE[:4], FIVE, 0.8),
        (overlapping(0.72), ONE, 0.5),
        (overlapping(0.95), ONE, 1),
        ([], FIVE, 0),
        ([], [], 1),
        (ONE, [], 0),
        ("", [], 0),
        (row(5, label="dog"), FIVE, 0),
        ([*FIVE, *objects((900, 900, 950, 950))], FIVE, 5 / 6),
        ([*FIVE, *objects((900, 900, 950, 950), label="yeti")], FIVE, 5 / 6),
        ([*FIVE, *[{"label": f"class {i}", "box": [900, 900, 950, 950]} for i in range(75)]], FIVE, 5 / 80),
        ([*row(4), *row(5, label="dog")[4:]][:4], [*row(4), *row(5, label="dog")[4:]], 0.5),
        (ONE * 2, ONE, 0),
        ([*ONE, *overlapping(0.7)], ONE, 0.25),
        ('[{"bbox_2d": [0, 0, 100, 100], "label": "cat"}, 7]', ONE, 0.5),
    ],
)
def test_mean_average_precision_by_hand(answer, truth, expected):
    assert judged(mean_average_precision, answer, truth) == pytest.approx(expected)


def test_odlength_by_hand():
    assert judged(od_length, FIVE, FIVE) == 1
    assert judged(od_length, FIVE[:4], FIVE) == pytest.approx(0.8)
    assert judged(od_length, [*FIVE, *spam(5, label="yeti")], FIVE) == pytest.approx(0.5 * 0.5)
    assert judged(od_length, FIVE * 8, FIVE, form="vlm_r1") == pytest.approx(1 / 8)
    assert judged(od_length, [], []) == 1
    assert judged(od_length, ONE, []) == 0


@pytest.mark.parametrize(
    ("boxes", "truth", "expected"),
    [
        ([(0, 1.0)], 1, (1, 1, 1)),
        ([(0, 0.5)], 1, (1, 0.75, 1)),
        ([(0, 1.0)], 2, (0.5, 0.5, 1)),
        ([(0, 1.0), (4, 1.0)], 1, (0.5, 0, 1)),
        ([(0, 1.0), (4, 0.0)], 1, (0.5, 0.5, 1)),
        ([(0, 1.0), (4, 0.0)], 2, (1 / 3, 1 / 3, 1)),
        ([(0, 1.0), (0, 1.0)], 1, (0.5, 0, 1)),
        ([], 1, (0, 0, 0)),
        ([], 0, (1, 1, 1)),
        ([(0, 0.0)], 0, (0, 0, 1)),
    ],
)
def test_visual_rft_mended_by_hand(boxes, truth, expected):
    items = [{"bbox_2d": row(5)[i]["box"], "label": "cat", "confidence": sure} for i, sure in boxes]
    score = visual_rft(Completion(text=json.dumps(items)), about(row(truth)))
    assert tuple(score.parts.values()) == pytest.approx(expected)
    assert score.value == pytest.approx(sum(expected))


@given(chance=st.sampled_from([0.1, 0.35, 0.6, 0.9]), said=st.floats(0, 1))
def test_the_honest_confidence_earns_most(chance, said):
    def expected(sure):
        return chance * sure * (2 - sure) - (1 - chance) * sure * sure

    assert expected(said) <= expected(chance) + 1e-12


def test_f1_by_hand():
    assert judged(box_f1, FIVE[:4], FIVE) == pytest.approx(8 / 9)
    assert judged(box_f1, FIVE * 2, FIVE) == pytest.approx(10 / 15)
    assert judged(box_f1, overlapping(0.5), ONE) == 1
    assert judged(box_f1, overlapping(0.5), ONE, threshold=[0.5, 0.75]) == 0.5
    assert judged(box_f1, [], []) == 1
    assert judged(box_f1, "no boxes", []) == 0
    with pytest.raises(ValueError, match="give one IoU or several"):
        judged(box_f1, ONE, ONE, threshold=[])


@pytest.mark.parametrize("reward", [mean_average_precision, od_length, visual_rft, box_f1])
@pytest.mark.parametrize("name", [*BLIND, "every box twice", "one box of the picture"])
def test_attacks_stay_below_an_honest_answer(reward, name):
    more = {"every box twice": FIVE * 2, "one box of the picture": objects((0, 0, 1000, 1000))}
    truth = FIVE if "another" not in name else [*row(3), *row(5, label="dog")[3:]]
    honest = [{**item, "box": [*item["box"][:2], item["box"][2] - 24, item["box"][3]]} for item in truth[:4]]
    assert judged(reward, {**BLIND, **more}[name], truth) < judged(reward, honest, truth)


shown = st.lists(
    st.integers(0, 9).map(lambda i: row(10)[i]) | st.integers(0, 50).map(lambda i: spam(1, seed=i)[0]), max_size=8
)


@settings(deadline=None)
@given(answer=shown, num=st.integers(0, 6), phase=st.sampled_from(list(PHASES)))
def test_values_stay_in_range_and_no_order_matters(answer, num, phase):
    truth = row(num)
    for reward in REWARDS:
        options = {"phase": phase} if reward is vision_r1 else {}
        value = judged(reward, answer, truth, **options)
        assert 0 <= value <= (3 if reward in (vision_r1, visual_rft) else 1)
        assert judged(reward, answer[::-1], truth[::-1], **options) == pytest.approx(value)


@settings(deadline=None)
@given(num=st.integers(1, 5), extra=st.integers(1, 8), seed=st.integers(0, 99))
def test_a_surplus_box_always_costs(num, extra, seed):
    truth = row(num)
    far = objects(*[(900, 900 + i, 950, 950 + i) for i in range(extra)])
    answer = [*truth, *far]
    random.Random(seed).shuffle(answer)
    for reward in REWARDS:
        assert judged(reward, answer, truth) < judged(reward, answer[:-1] if answer[-1] in far else truth, truth)


NASTY = [
    "", " ", "[", "]", "null", "{}", "42", '"[]"', "[[]]", "[null]", "[1, 2, 3, 4]", "```json", "```json```", "``````",
    "```json\n[]\n```", "[" * 20_000, "[" * 9_000 + "]" * 9_000, '{"a":' * 5_000, '[{"bbox_2d": ' * 1_500,
    '{"bbox_2d": [1, 2, 3, 4], "label": "' * 600, "<answer>" * 2_500, "</think><answer>" * 1_200, "<think>" * 3_000,
    "```json\n" * 2_500, "\n```" * 5_000, "[" + "9" * 19_000 + "]", "[" + "0." + "9" * 19_000 + "]", "[1e999]",
    '[{"bbox_2d": [0, 0, 1e400, 5], "label": "cat"}]', '[{"bbox_2d": [0, 0, 1e38, 1e38], "label": "cat"}]',
    '[{"bbox_2d": [NaN, NaN, NaN, NaN], "label": "cat", "confidence": NaN}]',
    '[{"bbox_2d": [0, 0, 1, 1], "label": "cat", "confidence": NaN}]',
    '[{"bbox_2d": [0, 0, 1' + "0" * 400 + ', 5], "label": "cat"}]',
    '[{"bbox_2d": [0, 0, 9, 9], "label": "cat", "confidence": 1' + "0" * 400 + "}]", '[{"bbox_2d": {}, "label": []}]',
    '[{"bbox_2d": [0, 0, 9, 9], "label": ["cat"]}]', '[{"bbox_2d": ["0", "0", "9", "9"], "label": null}]',
    '[{"bbox_2d": [0, 0, ٩, 9], "label": "cat"}]', "\x00" * 100, "\ud800", "🦓" * 5_000,
    written(spam(350)), written(ONE * 350), written(spam(350))[:-1], "x" * 150_000,
    "[" + written(ONE)[1:-1] + ", 7" * 6_000 + "]",
]  # fmt: skip
FORMS = [
    *((vision_r1, {"mode": mode, "phase": phase}) for mode in ("sightline", "paper", "released") for phase in PHASES),
    *((reward, {}) for reward in (mean_average_precision, od_length, visual_rft, box_f1, rec_iou)),
    *((reward, {"form": "vlm_r1"}) for reward in (mean_average_precision, od_length)),
    (visual_rft, {"form": "published"}),
]


@pytest.mark.parametrize(("reward", "options"), FORMS)
def test_nothing_that_a_model_writes_breaks_or_delays_a_reward(reward, options):
    truth = {"objects": row(25), "target": [0, 0, 9, 9]}
    for text in NASTY:
        try:
            value, steps = counted(lambda answer=text: judged(reward, answer, truth, **options))
        except ValueError:
            assert "form" in options or options.get("mode") == "released", text[:60]
        else:
            assert math.isfinite(value)
            assert steps < MOST_STEPS, text[:60]


def test_crowds_are_matched_in_a_bounded_number_of_steps():
    near = objects(*[(400 + i % 20, 400 + i // 20, 600, 600) for i in range(300)])
    for reward in REWARDS:
        value, steps = counted(lambda reward=reward: judged(reward, near, near))
        assert value in (1, 3)
        assert steps < MOST_STEPS


def test_answers_of_a_few_boxes_are_scored_in_few_steps():
    completion, context = Completion(text=written(row(6))), about(row(6))
    _, steps = counted(lambda: vision_r1(completion, context))
    assert steps < 2_000
