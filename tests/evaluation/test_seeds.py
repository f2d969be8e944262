"""Means over seeds: both sources of chance in the interval, p-values that agree with it, Holm by hand."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from sightline.evaluation.seeds import Figure, figure_of, holm, p_value, with_spread


def test_seeds_a_point_apart_leave_two_and_a_half_points_to_either_side():
    found = with_spread(0.75, 0.74, 0.76, [0.74, 0.75, 0.76])
    assert found.low == pytest.approx(0.7233, abs=1e-4)  # hypot(1 point, 4.303 * 1 point / sqrt 3)
    assert found.high == pytest.approx(0.7767, abs=1e-4)


def test_one_seed_has_the_interval_of_its_scenes():
    draws = np.concatenate([[0.5], np.linspace(0.0, 1.0, 1001)])
    found = figure_of([draws])
    assert (found.low, found.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert found.seeds == (0.5,)


def test_without_chance_of_scenes_the_p_value_is_that_of_students_test():
    seeds = [0.02, 0.05, 0.03, 0.04]
    found = with_spread(float(np.mean(seeds)), float(np.mean(seeds)), float(np.mean(seeds)), seeds)
    assert p_value(found) == pytest.approx(ttest_1samp(seeds, 0.0).pvalue, rel=1e-6)


def test_without_spread_of_seeds_the_p_value_is_that_of_a_normal_test():
    assert p_value(Figure(estimate=1.96, low=0.0, high=3.92, seeds=(1.96,))) == pytest.approx(0.05, rel=1e-3)
    assert p_value(Figure(estimate=-2.576, low=-4.536, high=-0.616, seeds=(-2.576,))) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("low", [-0.001, 0.001])
def test_the_p_value_and_the_interval_agree_on_what_is_clear(low: float):
    figure = Figure(estimate=0.1, low=low, high=0.2 - low, seeds=(0.09, 0.1, 0.11))
    assert (p_value(figure) < 0.05) == figure.clear == (low > 0)


def test_no_difference_has_a_p_value_of_one():
    assert p_value(Figure(estimate=0.0, low=-0.1, high=0.1, seeds=(0.0,))) == 1.0


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == {"a": pytest.approx(0.03), "b": pytest.approx(0.06), "c": pytest.approx(0.06), "d": 0.02}


def test_holm_of_one_comparison_changes_nothing_and_none_exceeds_one():
    assert holm({"only": 0.04}) == {"only": 0.04}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
