"""Intervals: hand values, the plain twin, coverage on a simulated ratio, and what is refused."""

import numpy as np
import pytest

from sightline.evaluation.statistics import (
    Interval,
    Ratio,
    UndefinedError,
    absolute_change,
    gap_closed,
    interval_of_mean,
    min_detectable_effect,
    paired_bootstrap,
    plain_bootstrap,
    ratio,
    relative_change,
)


def arm(numerator, denominator=None) -> Ratio:
    top = np.asarray(numerator, dtype=float)
    return Ratio(numerator=top, denominator=np.ones_like(top) if denominator is None else np.asarray(denominator))


def simulated(generator: np.random.Generator, num_scenes: int, rates: tuple[float, ...]) -> list[Ratio]:
    """Several models on the same scenes; a hard scene is hard for all of them."""
    mentioned = generator.poisson(3, num_scenes) + 1
    hard = generator.beta(2, 2, num_scenes) * 2
    return [arm(generator.binomial(mentioned, hard * rate), mentioned) for rate in rates]


def test_ratio_divides_sums_and_not_scenes():
    assert ratio(arm([1, 0], [3, 2]), seed=0).estimate == pytest.approx(1 / 5)


def test_interval_of_mean_matches_the_normal_interval_on_many_scenes():
    values = np.random.default_rng(0).normal(5, 2, 1000)
    interval = interval_of_mean(values, seed=1)
    half = 1.96 * values.std() / 1000**0.5
    assert interval.estimate == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_hand_values_of_the_changes():
    before, after, best = arm([2, 2, 2], [4, 4, 4]), arm([1, 1, 1], [4, 4, 4]), arm([0, 0, 0], [4, 4, 4])
    assert relative_change(before, after, seed=0) == Interval(estimate=-0.5, low=-0.5, high=-0.5)
    assert absolute_change(before, after, seed=0) == Interval(estimate=-0.25, low=-0.25, high=-0.25)
    assert gap_closed(before, after, best, seed=0) == Interval(estimate=0.5, low=0.5, high=0.5)


def test_a_model_beside_itself_has_not_changed():
    (model,) = simulated(np.random.default_rng(0), 50, (0.3,))
    assert relative_change(model, model, seed=0) == Interval(estimate=0.0, low=0.0, high=0.0)
    assert absolute_change(model, model, seed=0) == Interval(estimate=0.0, low=0.0, high=0.0)


def test_the_base_closes_no_gap_and_the_ceiling_all_of_it():
    base, ceiling = simulated(np.random.default_rng(0), 200, (0.4, 0.05))
    assert gap_closed(base, base, ceiling, seed=0) == Interval(estimate=0.0, low=0.0, high=0.0)
    assert gap_closed(base, ceiling, ceiling, seed=0) == Interval(estimate=1.0, low=1.0, high=1.0)


def test_gap_closed_is_the_same_whichever_way_is_better():
    base, tuned, ceiling = simulated(np.random.default_rng(0), 200, (0.4, 0.2, 0.05))
    mirrored = [arm(m.denominator - m.numerator, m.denominator) for m in (base, tuned, ceiling)]
    one, other = gap_closed(base, tuned, ceiling, seed=0), gap_closed(*mirrored, seed=0)
    assert (one.estimate, one.low, one.high) == pytest.approx((other.estimate, other.low, other.high))


@pytest.mark.parametrize("num_scenes", [1, 7, 60])
def test_the_fast_bootstrap_equals_its_plain_twin(num_scenes: int):
    arms = simulated(np.random.default_rng(num_scenes), num_scenes, (0.5, 0.3))
    for level in (0.9, 0.95):
        fast, plain = (
            bootstrap(*arms, statistic=lambda b, a: a - b, resamples=300, seed=5, level=level)
            for bootstrap in (paired_bootstrap, plain_bootstrap)
        )
        assert (fast.estimate, fast.low, fast.high) == pytest.approx((plain.estimate, plain.low, plain.high), abs=1e-12)


def test_draws_too_large_to_keep_give_the_same_interval(monkeypatch: pytest.MonkeyPatch):
    arms = simulated(np.random.default_rng(0), 100, (0.4, 0.2))
    kept = relative_change(*arms, seed=3)
    monkeypatch.setattr("sightline.evaluation.statistics._KEPT_CELLS", 0)
    assert relative_change(*arms, seed=3) == kept


def test_the_seed_decides_the_draw():
    arms = simulated(np.random.default_rng(0), 100, (0.4, 0.2))
    assert relative_change(*arms, seed=3) == relative_change(*arms, seed=3)
    assert relative_change(*arms, seed=3) != relative_change(*arms, seed=4)


def test_the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says():
    generator, truth, rounds = np.random.default_rng(0), 0.2, 400
    intervals = [ratio(simulated(generator, 150, (truth,))[0], resamples=600, seed=i) for i in range(rounds)]
    coverage = sum(not interval.excludes(truth) for interval in intervals) / rounds
    assert 0.91 < coverage < 0.98


def test_the_interval_of_a_relative_change_covers_the_truth_as_often_as_it_says():
    generator, rounds = np.random.default_rng(1), 400
    intervals = [relative_change(*simulated(generator, 150, (0.3, 0.15)), resamples=600, seed=i) for i in range(rounds)]
    coverage = sum(not interval.excludes(-0.5) for interval in intervals) / rounds
    assert 0.91 < coverage < 0.98


def test_pairing_narrows_the_interval_of_a_change():
    before, after = simulated(np.random.default_rng(0), 400, (0.45, 0.4))
    order = np.random.default_rng(1).permutation(400)
    shuffled = arm(after.numerator[order], after.denominator[order])
    paired, unpaired = absolute_change(before, after, seed=0), absolute_change(before, shuffled, seed=0)
    assert paired.high - paired.low < 0.95 * (unpaired.high - unpaired.low)


def test_a_ratio_without_chances_is_refused():
    with pytest.raises(UndefinedError, match="denominators is 0 over all scenes"):
        ratio(arm([0, 0], [0, 0]), seed=0)


def test_a_ratio_with_too_few_chances_is_refused_with_a_count():
    with pytest.raises(UndefinedError, match=r"vanishes or changes sign in \d+ of 1000 resamples"):
        ratio(arm([1, 0, 0, 0], [2, 0, 0, 0]), resamples=1000, seed=0)


def test_a_relative_change_from_zero_is_refused():
    with pytest.raises(UndefinedError, match="the rate before"):
        relative_change(arm([0, 0, 0]), arm([1, 0, 1]), seed=0)


def test_a_share_of_no_gap_is_refused():
    base, tuned, near = simulated(np.random.default_rng(0), 100, (0.3, 0.2, 0.3))
    with pytest.raises(UndefinedError, match="gap between base and ceiling"):
        gap_closed(base, tuned, base, seed=0)
    with pytest.raises(UndefinedError, match="report the absolute change"):
        gap_closed(base, tuned, near, seed=0)


@pytest.mark.parametrize(
    ("numerator", "denominator", "reason"),
    [
        ([1, 2], [1], "one of each per scene"),
        ([], [], "one of each per scene"),
        ([1, float("nan")], [1, 1], "not finite"),
        ([1, 1], [1, -1], "counts, 0 or more"),
    ],
)
def test_what_is_no_count_is_refused(numerator: list[float], denominator: list[float], reason: str):
    with pytest.raises(ValueError, match=reason):
        arm(numerator, denominator)


def test_models_measured_on_different_scenes_are_refused():
    with pytest.raises(ValueError, match="2 and 3 scenes"):
        absolute_change(arm([1, 0]), arm([1, 0, 1]), seed=0)


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="resamples is 0"):
        ratio(arm([1, 0]), resamples=0, seed=0)
    with pytest.raises(ValueError, match="level 95"):
        ratio(arm([1, 0]), level=95, seed=0)


def test_min_detectable_effect_of_right_and_wrong_answers():
    """Ten of a hundred answers differ, five each way: 2.80 * sqrt(0.1 / 100) is 8.9 points."""
    before, after = arm([1] * 5 + [0] * 95), arm([0] * 5 + [1] * 5 + [0] * 90)
    assert min_detectable_effect(before, after) == pytest.approx(2.8016 * (0.1 / 100) ** 0.5, rel=1e-4)
    assert min_detectable_effect(before, after, num_scenes=400) == pytest.approx(0.0443, abs=1e-4)


def test_a_change_of_the_detectable_size_is_found_four_times_in_five():
    generator = np.random.default_rng(0)
    pilot = simulated(generator, 20_000, (0.3, 0.24))
    num_scenes = 200
    effect = min_detectable_effect(*pilot, num_scenes=num_scenes)
    found = [
        absolute_change(*simulated(generator, num_scenes, (0.3, 0.3 - effect)), resamples=500, seed=i).excludes(0)
        for i in range(300)
    ]
    assert 0.72 < np.mean(found) < 0.88
