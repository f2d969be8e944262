"""Several rewards as one: sums, clips, gates, opinions; and the two orders of normalising and summing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sightline.records import Completion
from sightline.rewards.answers import count
from sightline.rewards.compose import Composed, Part, combine
from sightline.rewards.contract import RewardContext, Score
from sightline.rewards.shaping import format_match, length

NOTHING = RewardContext(truth={})


def said(completion, context, *, factor=1.0):
    return None if completion.text == "?" else factor * float(completion.text)


def boxes(completion, context):
    return Score(value=2.5, parts={"recall": 0.5, "gate": 0.0})


def score(composed, text, *, context=NOTHING, **options):
    return composed.score(Completion(text=text), context, **options)


def test_the_sum_is_weighted_and_every_part_is_kept():
    composed = Composed(parts=(Part(name="a", reward=said, weight=2.0), Part(name="b", reward=boxes, weight=-1.0)))
    found = score(composed, "3")
    assert found.value == 3.5
    assert found.parts == {"a": 3.0, "b": 2.5, "b/recall": 0.5, "b/gate": 0.0}


def test_values_are_clipped_before_they_are_weighted():
    composed = Composed(parts=(Part(name="a", reward=said, weight=2.0, clip=(-1.0, 1.0)),))
    assert [(score(composed, t).value, score(composed, t).parts["a"]) for t in ("5", "-5", ".5")] == [
        (2.0, 1.0),
        (-2.0, -1.0),
        (1.0, 0.5),
    ]


def test_a_closed_gate_takes_what_was_earned_and_leaves_what_was_lost():
    form = Part(name="form", reward=format_match, options={"template": "number"}, weight=0.5, gate=1.0)
    parts = (form, Part(name="bonus", reward=boxes), Part(name="malus", reward=boxes, weight=-0.1))
    composed = Composed(parts=parts, else_value=-1.0)
    assert score(composed, "3").value == 0.5 + 2.5 - 0.25
    closed = score(composed, "three")
    assert closed.value == -1.25
    assert closed.parts["form/gate"] == 0
    assert closed.parts["bonus"] == 2.5
    assert score(composed, "3").parts["form/gate"] == 1


def test_a_reward_for_other_tasks_is_no_part_of_the_sum():
    parts = (Part(name="a", reward=said, tasks=("count",)), Part(name="b", reward=boxes, tasks=("detect", "refer")))
    about = {task: RewardContext(truth={}, task=task) for task in ("count", "refer", "read")}
    composed = Composed(parts=parts)
    assert score(composed, "3", context=about["count"]).parts == {"a": 3.0}
    assert score(composed, "?", context=about["refer"]).value == 2.5
    assert score(composed, "3", context=about["read"]) is None
    assert score(composed, "3") is None
    assert score(composed, "?", context=about["count"]) is None


def placing(completion, context):
    """Half of it at the third character."""
    return Score(value=2.0, placed=((3, 1.0),))


def test_what_is_placed_is_weighted_unless_a_gate_or_a_bound_changed_the_value():
    twice = Part(name="a", reward=placing, weight=2.0)
    assert score(Composed(parts=(twice,)), "1").placed == ((3, 2.0),)
    assert score(Composed(parts=(Part(name="a", reward=placing, clip=(0.0, 1.0)),)), "1").placed == ()
    form = Part(name="form", reward=format_match, options={"template": "number"}, weight=0.0, gate=1.0)
    assert score(Composed(parts=(form, twice)), "1").placed == ((3, 2.0),)
    assert score(Composed(parts=(form, twice)), "one").placed == ()


def test_a_reward_may_be_earned_sentence_by_sentence():
    def letters(completion, context):
        return None if completion.text == "No." else float(len(completion.text))

    composed = Composed(parts=(Part(name="a", reward=letters, weight=0.5, at="sentence"),))
    assert score(composed, "One. Three. Two") == Score(value=7.5, parts={"a": 15.0}, placed=((4, 2.0), (11, 3.5)))
    assert score(composed, "No. Yes. Two").placed == ((8, 4.0),)
    assert score(composed, "One").placed == ()


def test_a_gate_looks_at_the_value_before_clipping():
    composed = Composed(parts=(Part(name="a", reward=said, clip=(0.0, 1.0), gate=5.0),))
    assert [score(composed, text).value for text in ("4.9", "5", "9")] == [0, 1, 1]


@given(
    values=st.lists(st.floats(-10, 10), min_size=3, max_size=3),
    weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    gate=st.floats(-10, 10),
    else_value=st.floats(-5, 0),
)
def test_closing_a_gate_never_pays(values, weights, gate, else_value):
    def part(i: int, gate: float | None) -> Part:
        return Part(name=f"r{i}", reward=lambda completion, context: values[i], weight=weights[i], gate=gate)

    with_gate = Composed(parts=(part(0, gate), part(1, None), part(2, None)), else_value=else_value)
    without = Composed(parts=tuple(part(i, None) for i in range(3)))
    assert score(with_gate, "").value <= score(without, "").value + 1e-12


def test_no_opinion_of_a_needed_reward_leaves_the_answer_out():
    needed = Composed(parts=(Part(name="a", reward=said), Part(name="b", reward=boxes)))
    assert score(needed, "?") is None
    optional = Composed(parts=(Part(name="a", reward=said, optional=True, gate=1.0), Part(name="b", reward=boxes)))
    assert score(optional, "?").value == 2.5
    assert "a" not in score(optional, "?").parts
    alone = Composed(parts=(Part(name="a", reward=said, optional=True),))
    assert score(alone, "?") is None


def test_errors_go_up_and_name_the_reward():
    composed = Composed(parts=(Part(name="mine", reward=said),))
    with pytest.raises(ValueError, match=r"^mine: the reward's value is nan"):
        score(composed, "nan")
    with pytest.raises(ValueError, match="could not convert"):
        score(composed, "three")


def test_schedules_in_options_move_with_progress_and_with_the_curriculum():
    options = {"factor": {"steps": [[0.0, 1.0], [0.5, 2.0]]}}
    composed = Composed(parts=(Part(name="a", reward=said, options=options),))
    late = RewardContext(truth={}, progress=0.5)
    assert (score(composed, "3").value, score(composed, "3", context=late).value) == (3, 6)
    assert score(composed, "3", options=composed.curriculum().values(0.9)).value == 6
    assert score(composed, "3", options={"a": {"factor": 5.0}}).value == 15
    assert score(composed, "3", options={"b": {"factor": 5.0}}, context=late).value == 6


def test_a_skill_of_one_part_drives_an_option_of_another():
    ladder = {"skill": "b/recall", "levels": [1.0, 2.0], "up": 0.5, "window": 1}
    parts = (Part(name="a", reward=said, options={"factor": ladder}), Part(name="b", reward=boxes))
    composed = Composed(parts=parts)
    curriculum = composed.curriculum()
    first = score(composed, "3", options=curriculum.values(0.0))
    curriculum.observe(first.parts)
    assert (first.value, score(composed, "3", options=curriculum.values(0.0)).value) == (5.5, 8.5)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Part(name="", reward=said), "without a slash"),
        (lambda: Part(name="a/b", reward=said), "without a slash"),
        (lambda: Part(name="a", reward=said, weight=math.nan), "a: weight is nan"),
        (lambda: Part(name="a", reward=said, clip=(1.0, 0.0)), "lower bound first"),
        (lambda: Part(name="a", reward=said, options={"factr": 1}), r"did you mean factor\?"),
        (lambda: Part(name="a", reward=said, options={"factor": {"ramp": 3}}), r"a\.factor: ramp is 3"),
        (lambda: Composed(parts=()), "there is no reward"),
        (lambda: Composed(parts=(Part(name="a", reward=said),) * 2), "two rewards are named 'a'"),
        (lambda: Composed(parts=(Part(name="a", reward=said),), else_value=0.5), "must not pay"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_scored(made, message):
    with pytest.raises(ValueError, match=message):
        made()


def test_built_in_rewards_compose():
    form = Part(name="form", reward=format_match, options={"template": "number"}, weight=0.1, gate=1.0)
    composed = Composed(parts=(form, Part(name="count", reward=count), Part(name="brief", reward=length, weight=0.0)))
    context = RewardContext(truth={"count": 3})
    assert [score(composed, text, context=context).value for text in ("3", "There are 3.", "4", "")] == [
        1.1,
        0,
        0.1,
        0,
    ]


VALUES = np.array([[[1.0, 100.0], [3.0, 100.0]], [[2.0, 300.0], [2.0, 100.0]]])


def test_sum_by_hand():
    np.testing.assert_allclose(combine(VALUES, [1.0, 0.01], "sum"), [[2, 4], [5, 3]])


def test_sum_then_normalise_by_hand():
    half = 1 / math.sqrt(2)
    found = combine(VALUES, [1.0, 0.01], "sum_then_normalise", epsilon=0.0)
    np.testing.assert_allclose(found, [[-half, half], [half, -half]])
    damped = combine(VALUES, [1.0, 0.01], "sum_then_normalise", epsilon=math.sqrt(2))
    np.testing.assert_allclose(damped, np.array([[-half, half], [half, -half]]) / 2)


def test_normalise_then_sum_by_hand():
    half = 1 / math.sqrt(2)
    summed = np.array([[-half, half], [2 * half, -2 * half]])
    found = combine(VALUES, [1.0, 2.0], "normalise_then_sum", epsilon=0.0)
    np.testing.assert_allclose(found, summed / summed.std(ddof=1))


def test_what_does_not_vary_gives_exactly_nothing():
    same = np.full((3, 5, 2), 0.1)
    for how in ("sum_then_normalise", "normalise_then_sum"):
        assert (combine(same, [0.3, 0.7], how) == 0).all()
    assert combine(np.zeros((0, 4, 2)), [1, 1], "normalise_then_sum").shape == (0, 4)
    assert (combine(np.ones((2, 1, 2)), [1, 1], "sum_then_normalise") == 0).all()


def test_answers_without_an_opinion_are_left_out_of_mean_and_spread():
    values = VALUES.copy()
    values[0, 0, 1] = np.nan
    found = combine(np.concatenate([values, [[[9.0, 9.0]] * 2]]), [1.0, 1.0], "sum_then_normalise")
    assert np.isnan(found[0]).tolist() == [True, False]
    assert found[0, 1] == 0
    optional = combine(values, [1.0, 1.0], "sum", optional=[False, True])
    np.testing.assert_allclose(optional, [[1, 103], [302, 102]])
    values[0, 0, 0] = np.nan
    assert np.isnan(combine(values, [1.0, 1.0], optional=[True, True])[0, 0])


@pytest.mark.parametrize(
    ("values", "weights", "how", "message"),
    [
        (VALUES, [1.0, 1.0], "sum_then_normalize", r"did you mean sum_then_normalise\?"),
        (VALUES, [1.0], "sum", r"values are \[2, 2, 2\] and weights \[1\]"),
        (VALUES[0], [1.0, 1.0], "sum", "groups, answers, rewards"),
        (VALUES * np.inf, [1.0, 1.0], "sum", "give finite values"),
    ],
)
def test_combine_refuses_what_does_not_fit(values, weights, how, message):
    with pytest.raises(ValueError, match=message):
        combine(values, weights, how)


tables = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(2, 5), st.just(2)), elements=st.integers(-9, 9))


@given(values=tables, scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_normalise_then_sum_does_not_hear_the_scale_of_a_reward(values, scale, shift):
    moved = values * [scale, 1.0] + [shift, 0.0]
    first, second = (combine(v, [1.0, 0.5], "normalise_then_sum", epsilon=1e-9) for v in (values, moved))
    np.testing.assert_allclose(first, second, atol=1e-4)


@given(values=tables, how=st.sampled_from(["sum_then_normalise", "normalise_then_sum"]), seed=st.integers(0, 99))
def test_combine_is_centred_and_indifferent_to_order(values, how, seed):
    found = combine(values, [1.0, 0.5], how)
    np.testing.assert_allclose(found.mean(axis=1 if how == "sum_then_normalise" else None), 0, atol=1e-9)
    order = np.random.default_rng(seed).permutation(values.shape[1])
    np.testing.assert_allclose(combine(values[:, order], [1.0, 0.5], how), found[:, order], atol=1e-9)


@given(texts=st.lists(st.lists(st.sampled_from(["1", "-2", "0.5", "?", "7"]), max_size=4), max_size=3))
def test_combined_sums_are_the_scores_own_values(texts):
    parts = (
        Part(name="a", reward=said, weight=2.0, clip=(-1.0, 5.0)),
        Part(name="b", reward=boxes, weight=-0.5),
        Part(name="c", reward=said, weight=0.0, gate=0.7, optional=True),
    )
    composed = Composed(parts=parts, else_value=-0.25)
    scores = [[score(composed, text) for text in group] for group in texts]
    table = composed.combined(scores)
    for group, row in zip(scores, table, strict=True):
        expected = [math.nan if found is None else found.value for found in group]
        np.testing.assert_allclose(row[: len(group)], expected)
        assert np.isnan(row[len(group) :]).all()


def test_normalise_then_sum_of_scores_hears_a_closed_gate():
    form = Part(name="form", reward=format_match, options={"template": "number"}, weight=0.0, gate=1.0)
    composed = Composed(parts=(form, Part(name="count", reward=count)))
    context = RewardContext(truth={"count": 3})
    scores = [[score(composed, text, context=context) for text in ("3", "There are 3.", "4")]]
    found = composed.combined(scores, "normalise_then_sum")[0]
    assert found[0] > found[1] == found[2]
