"""Stages: every step of every schedule is one, and nothing that stays the same is tried twice."""

import pytest

from sightline.rewards.stages import COURSE, stages_of

SKILL = {"skill": "recall", "levels": [0.5, 0.75, 0.9], "up": 0.8}


def names(reward, options, **more):
    return [stage.name for stage in stages_of(reward, options, **more)]


@pytest.mark.parametrize(
    ("reward", "options", "expected"),
    [
        ("count", {}, ["0"]),
        ("count", {"partial": 0.5}, ["0"]),
        ("vision_r1", {}, ["0", "0.5"]),
        ("vision_r1", {"step": 0.25}, ["0", "0.25"]),
        ("vision_r1", {"step": 0.0}, ["0"]),
        ("vision_r1", {"step": 1}, ["0"]),
        ("vision_r1", {"phase": "late"}, ["0"]),
        ("vision_r1", {"mode": "released"}, ["0"]),
        ("vision_r1", {"phase": {"steps": [[0.0, "early"], [0.4, "late"]]}}, ["0, phase early", "0.4, phase late"]),
        ("map", {"span": {"steps": [[0.0, "whole"]]}}, ["0, span whole"]),
        (
            "box_f1",
            {"threshold": {"ramp": [0.5, 0.9], "between": [0.2, 0.6]}},
            [f"{p:g}, threshold {t}" for p, t in ((0, 0.5), (0.3, 0.6), (0.4, 0.7), (0.5, 0.8), (0.6, 0.9))],
        ),
        ("box_f1", {"threshold": SKILL}, ["0, threshold 0.5", "0, threshold 0.75", "0, threshold 0.9"]),
        ("mine:reward", {}, [f"{place:g}" for place in COURSE]),
    ],
    ids=str,
)
def test_stages_by_hand(reward, options, expected):
    found = names(reward, options)
    assert [name.split(", ")[0] for name in found] == [name.split(", ")[0] for name in expected]
    assert len(found) == len(expected)
    for stage, name in zip(stages_of(reward, options), expected, strict=True):
        assert [str(round(v, 9) if isinstance(v, float) else v) for v in stage.options.values()] == [
            part.split()[1] for part in name.split(", ")[1:]
        ]


def test_levels_of_several_ladders_are_tried_with_one_another():
    assert len(names("vision_r1", {"none_below": SKILL, "full_from": SKILL | {"levels": [0.9, 1.0]}, "step": 1})) == 6


def test_a_reward_beside_brings_its_own_stages():
    assert names("length", {}, beside="vision_r1") == ["0", "0.5"]
    assert names("length", {}, beside="mine:reward") == [f"{place:g}" for place in COURSE]


def test_a_schedule_that_is_wrong_is_named():
    with pytest.raises(ValueError, match="threshold: steps is 3"):
        stages_of("box_f1", {"threshold": {"steps": 3}})
