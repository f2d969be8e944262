"""Schedules of reward options: their values by hand, their state, and what is said of wrong ones."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sightline.records import Completion
from sightline.rewards.compose import Composed, Part
from sightline.rewards.contract import RewardContext
from sightline.rewards.curriculum import Curriculum, Ladder, Ramp, Steps, differentiate, parse_schedule, value_at
from sightline.rewards.detection import vision_r1

CLIMB = {"skill": "recall", "levels": [0.5, 0.75, 0.9], "up": 0.8, "down": 0.6, "window": 2}

VISION_R1 = """
rewards:
  - name: vision_r1
    options:
      mode: paper
      phase: {steps: [[0.0, early], [0.5, late]]}
"""


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.49, 0.0), (0.5, 0.5), (0.6, 0.6), (0.75, 1.0), (0.9, 1.0), (0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0)],
)
def test_differentiation_has_closed_thresholds(x, expected):
    assert differentiate(x, 0.5, 0.75) == expected


def test_differentiation_with_one_threshold_is_a_step():
    assert [differentiate(x, 0.5, 0.5) for x in (0.49, 0.5, 0.51)] == [0, 1, 1]
    with pytest.raises(ValueError, match="low must not be above high"):
        differentiate(0.5, 0.9, 0.5)


@given(x=st.floats(0, 1), y=st.floats(0, 1), low=st.floats(0, 1), high=st.floats(0, 1))
def test_differentiation_never_falls_and_stays_between_0_and_1(x, y, low, high):
    low, high = sorted((low, high))
    first, second = (differentiate(value, low, high) for value in sorted((x, y)))
    assert 0 <= first <= second <= 1


@pytest.mark.parametrize(
    "plain", [0.5, "early", True, None, [1, 2], {"dog": ["puppy"]}, {}, [[0.0, 1]], {"colours": ["red"]}]
)
def test_ordinary_values_are_handed_through(plain):
    assert parse_schedule(plain) is plain
    assert value_at(plain, 0.3) is plain


def test_the_three_forms_are_read():
    assert parse_schedule({"steps": [[0, 0.5], [0.5, 0.75]]}) == Steps(starts=(0, 0.5), values=(0.5, 0.75))
    assert parse_schedule({"ramp": [0.5, 0.75]}) == Ramp(first=0.5, last=0.75, start=0, end=1)
    assert parse_schedule({"ramp": [1, 0], "between": [0.2, 0.8]}) == Ramp(first=1, last=0, start=0.2, end=0.8)
    expected = Ladder(skill="recall", levels=(0.5, 0.75, 0.9), up=0.8, down=0.6, window=2)
    assert parse_schedule(CLIMB) == expected
    assert parse_schedule({"skill": "recall", "levels": ["a", "b"], "up": 0.8}).down is None


def test_steps_hold_from_their_start_on():
    steps = parse_schedule({"steps": [[0.0, "off"], [0.25, "early"], [0.5, "late"]]})
    values = [value_at(steps, progress) for progress in (0, 0.2499, 0.25, 0.4999, 0.5, 1.0)]
    assert values == ["off", "off", "early", "early", "late", "late"]


def test_a_ramp_is_level_outside_and_straight_inside():
    ramp = parse_schedule({"ramp": [0.5, 0.75], "between": [0.2, 0.8]})
    assert [value_at(ramp, p) for p in (0, 0.2, 0.8, 1)] == [0.5, 0.5, 0.75, 0.75]
    assert value_at(ramp, 0.5) == pytest.approx(0.625)


@given(first=st.floats(-1e6, 1e6), last=st.floats(-1e6, 1e6), progress=st.floats(0, 1))
def test_a_ramp_stays_between_its_ends(first, last, progress):
    value = value_at(Ramp(first=first, last=last), progress)
    slack = 1e-9 * (abs(first) + abs(last))
    assert min(first, last) - slack <= value <= max(first, last) + slack


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"steps": []}, "write pairs of start and value"),
        ({"steps": 3}, "write pairs of start and value"),
        ({"steps": "abc"}, "write pairs of start and value"),
        ({"steps": [[0.0, 1, 2]]}, "write pairs of start and value"),
        ({"steps": [[0.1, 1]]}, "begin at 0.0"),
        ({"steps": [[0.0, 1], [0.5, 2], [0.5, 3]]}, "above the one before"),
        ({"steps": [[0.0, 1], [1500, 2]]}, "a share of the run, 0 to 1"),
        ({"steps": [["0.0", 1]]}, "write a finite number"),
        ({"steps": [[0.0, 1]], "window": 3}, "has no 'window'"),
        ({"ramp": [0.5, 0.75], "betwen": [0, 1]}, "did you mean between?"),
        ({"ramp": 0.5}, "the first and the last value"),
        ({"ramp": ["a", "b"]}, "write a finite number"),
        ({"ramp": [0, math.inf]}, "write a finite number"),
        ({"ramp": [True, 1]}, "write a finite number"),
        ({"ramp": [0, 1], "between": [0.8, 0.2]}, "let the ramp end after it begins"),
        ({"ramp": [0, 1], "between": [0.2, 2]}, "a share of the run"),
        (CLIMB | {"skill": 3}, "name a measure"),
        (CLIMB | {"levels": [0.5]}, "two values or more"),
        (CLIMB | {"levels": 0.5}, "two values or more"),
        (CLIMB | {"window": 0}, "1 or more"),
        (CLIMB | {"window": 2.5}, "1 or more"),
        (CLIMB | {"down": 0.8}, "leave a gap below up"),
        ({"skill": "recall", "levels": [0, 1]}, "up is missing"),
        ({"between": [0.2, 0.8]}, "without ramp"),
        ({"levels": [1, 2], "up": 0.8}, "without skill"),
        ({"step": [[0.0, 1]]}, "did you mean steps?"),
    ],
    ids=str,
)
def test_wrong_schedules_say_where_and_what_to_write(plain, said):
    with pytest.raises(ValueError, match=r"^vision_r1\.low") as refused:
        Curriculum({"vision_r1": {"low": plain}})
    assert said in str(refused.value)


def test_vision_r1_is_one_fragment_of_a_recipe():
    (entry,) = yaml.safe_load(VISION_R1)["rewards"]
    curriculum = Curriculum({entry["name"]: entry["options"]})
    assert curriculum.values(0.0) == {"vision_r1": {"mode": "paper", "phase": "early"}}
    assert curriculum.values(0.4999)["vision_r1"]["phase"] == "early"
    assert curriculum.values(0.5)["vision_r1"]["phase"] == "late"
    assert curriculum.moving(1.0) == {"vision_r1/phase": "late"}


def test_the_fragment_moves_the_thresholds_of_the_reward():
    (entry,) = yaml.safe_load(VISION_R1)["rewards"]
    composed = Composed(parts=(Part(name=entry["name"], reward=vision_r1, options=entry["options"]),))
    answer = Completion(text='[{"bbox_2d": [0, 0, 10, 8], "label": "cat"}]')
    truth = {"objects": [{"label": "cat", "box": [0, 0, 10, 10]}]}
    early, late = (
        composed.score(answer, RewardContext(truth=truth, image_size=(20, 20), progress=progress))
        for progress in (0.49, 0.5)
    )
    assert early.parts == {"vision_r1": 3, "vision_r1/format": 1, "vision_r1/recall": 1, "vision_r1/precision": 1}
    assert late.parts == pytest.approx(early.parts | {"vision_r1": 2.8, "vision_r1/precision": 0.8})


def test_the_two_stages_can_be_spelt_out_in_thresholds():
    stages = {
        "valid_from": {"steps": [[0.0, 0.5], [0.5, 0.75]]},
        "none_below": {"steps": [[0.0, 0.5], [0.5, 0.75]]},
        "full_from": {"steps": [[0.0, 0.75], [0.5, 0.9]]},
    }
    curriculum = Curriculum({"boxes": stages})
    early, late = (curriculum.values(progress)["boxes"] for progress in (0.49, 0.5))
    assert early == {"valid_from": 0.5, "none_below": 0.5, "full_from": 0.75}
    assert late == {"valid_from": 0.75, "none_below": 0.75, "full_from": 0.9}
    overlaps = (0.45, 0.6, 0.8, 0.95)
    assert [differentiate(x, early["none_below"], early["full_from"]) for x in overlaps] == [0, 0.6, 1, 1]
    assert [differentiate(x, late["none_below"], late["full_from"]) for x in overlaps] == [0, 0, 0.8, 1]


def climbed(*values: float, plain: object = CLIMB) -> list[float]:
    curriculum = Curriculum({"boxes": {"low": plain}})
    seen = []
    for value in values:
        curriculum.observe({"boxes/recall": value})
        seen.append(curriculum.values(0.0)["boxes"]["low"])
    return seen


def test_a_ladder_rises_when_the_window_is_full_and_good_and_then_measures_anew():
    assert climbed(0.8, 0.8, 0.9, 0.9, 1, 1) == [0.5, 0.75, 0.75, 0.9, 0.9, 0.9]


def test_a_ladder_falls_only_when_clearly_worse():
    assert climbed(1, 1, 0.7, 0.7, 0.6, 0.6, 0.59, 0.59) == [0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.5, 0.5]
    assert climbed(1, 1, 0, 0, plain={**CLIMB, "down": None}) == [0.5, 0.75, 0.75, 0.75]
    assert climbed(0, 0, 0) == [0.5, 0.5, 0.5]


def test_the_mean_of_the_window_decides_not_the_last_value():
    assert climbed(0.0, 1.0, 0.6, 1.0) == [0.5, 0.5, 0.75, 0.75]


def test_a_skill_is_a_part_of_the_same_reward_first_and_any_measure_by_its_full_name():
    options = {"a": {"x": CLIMB | {"window": 1}}, "b": {"x": CLIMB | {"window": 1, "skill": "a/recall"}}}
    curriculum = Curriculum(options)
    curriculum.observe({"a/recall": 0.9, "b/recall": 0.0, "recall": 0.0})
    assert curriculum.moving(0.0) == {"a/x": 0.75, "b/x": 0.75}


def test_a_skill_that_nothing_measures_is_named():
    curriculum = Curriculum({"boxes": {"low": CLIMB | {"skill": "recal"}, "high": CLIMB}})
    assert curriculum.unmeasured() == ("recal", "recall")
    curriculum.observe({"boxes/recall": 0.5, "boxes": 1.0})
    assert curriculum.unmeasured() == ("recal",)


def test_a_measure_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="leave it out"):
        Curriculum({"boxes": {"low": CLIMB}}).observe({"boxes/recall": math.nan})


@given(
    values=st.lists(st.floats(0, 1), max_size=60),
    cut=st.integers(0, 60),
    window=st.integers(1, 5),
    down=st.none() | st.floats(0, 0.5),
)
def test_a_resumed_curriculum_goes_on_bit_for_bit(values, cut, window, down):
    options = {
        "boxes": {"low": CLIMB | {"window": window, "down": down}, "high": {"ramp": [0.1, 0.7]}, "mode": "paper"}
    }
    whole, first = Curriculum(options), Curriculum(options)
    seen = []
    for i, value in enumerate(values):
        if i == cut:
            resumed = Curriculum(options)
            resumed.restore(json.loads(json.dumps(first.state())))
            first = resumed
        for curriculum in (whole, first):
            curriculum.observe({"boxes/recall": value})
        seen.append(whole.values(i / len(values)))
        assert first.values(i / len(values)) == seen[-1]
    assert first.state() == whole.state()
    assert all(options["low"] in CLIMB["levels"] for row in seen for options in row.values())


def test_a_state_is_a_copy():
    curriculum = Curriculum({"boxes": {"low": CLIMB}})
    curriculum.observe({"boxes/recall": 0.5})
    state = curriculum.state()
    curriculum.observe({"boxes/recall": 0.5})
    assert state == {"boxes": {"low": {"level": 0, "seen": [0.5], "num_observed": 1}}}


def test_a_state_of_other_schedules_is_refused():
    state = Curriculum({"boxes": {"low": CLIMB}}).state()
    with pytest.raises(ValueError, match=r"has skill-driven boxes.low, this run boxes.high; resume with the recipe"):
        Curriculum({"boxes": {"high": CLIMB}}).restore(state)
    with pytest.raises(ValueError, match="this run no options"):
        Curriculum({"boxes": {"low": 0.5}}).restore(state)
    state["boxes"]["low"]["level"] = 2
    with pytest.raises(ValueError, match="other levels"):
        Curriculum({"boxes": {"low": CLIMB | {"levels": [0.5, 0.75]}}}).restore(state)
