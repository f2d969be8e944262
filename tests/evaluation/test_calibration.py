"""Calibration of ratings and best of N: hand values, and the slow way to the same numbers."""

import math
from itertools import combinations

import numpy as np
import pytest

from sightline.evaluation.calibration import (
    Calibration,
    accuracy,
    best_of_n,
    expected_calibration_error,
    fit_calibration,
)


def logistic_comparisons(temperature: float, num: int = 20_000, *, lapse: float = 0.0) -> np.ndarray:
    """Differences whose sign is right as often as their size over the temperature says; some are turned after all."""
    rng = np.random.default_rng(0)
    size = np.abs(rng.normal(0, 2, num))
    wins = rng.random(num) < 1 / (1 + np.exp(-size / temperature))
    wins ^= rng.random(num) < lapse
    return np.where(wins, size, -size)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_comparisons_is_found(temperature: float):
    differences = logistic_comparisons(temperature)
    assert fit_calibration(differences, lapse=0.0).temperature == pytest.approx(temperature, rel=0.1)
    assert expected_calibration_error(differences, Calibration(temperature=temperature)) < 0.02


@pytest.mark.parametrize("lapse", [0.0, 0.1, 0.3])
def test_a_source_that_errs_at_random_is_told_from_ratings_that_are_unsure(lapse: float):
    differences = logistic_comparisons(0.5, lapse=lapse)
    found = fit_calibration(differences)
    assert found.lapse == pytest.approx(lapse, abs=0.02)
    assert found.temperature == pytest.approx(0.5, rel=0.2)
    assert expected_calibration_error(differences, found) < 0.02
    if lapse:  # no temperature alone is right about both small and large differences
        alone = fit_calibration(differences, lapse=0.0)
        assert expected_calibration_error(differences, alone) > 0.03


def test_overconfidence_is_an_error_that_temperature_mends():
    differences = 10 * logistic_comparisons(1.0)
    assert expected_calibration_error(differences, Calibration()) > 0.1
    assert expected_calibration_error(differences, fit_calibration(differences)) < 0.02


def test_calibration_error_by_hand():
    sure = math.log(9)  # probability 0.9
    assert expected_calibration_error(np.array([sure, sure, sure, -sure]), Calibration()) == pytest.approx(0.15)
    assert expected_calibration_error(np.array([1e-9, -1e-9]), Calibration()) == pytest.approx(0, abs=1e-6)


def test_a_lapse_bounds_how_sure_anybody_is():
    assert Calibration(temperature=0.5, lapse=0.1).sure(np.array([1.0]))[0] == pytest.approx(
        0.1 + 0.8 / (1 + math.exp(-2))
    )
    assert Calibration(lapse=0.1).sure(np.array([-1e6, 1e6])) == pytest.approx([0.9, 0.9])


def test_accuracy_counts_comparisons_and_draws_prompts():
    found = accuracy(np.array([1.0, -1.0, 0.0, 2.0]), [0, 0, 1, 2])
    assert found.estimate == pytest.approx(2.5 / 4)
    assert found.low < found.estimate < found.high
    alike = accuracy(np.array([1.0, 1.0]), [0, 1])
    assert (alike.low, alike.high) == (1, 1)


def test_best_of_n_is_the_mean_over_every_choice():
    rng = np.random.default_rng(1)
    proxy, gold = rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    for best in best_of_n(proxy, gold, sizes=[1, 2, 3, 6]):
        chosen = [
            max(choice, key=lambda i, row=row: proxy[row, i])
            for row in range(3)
            for choice in combinations(range(6), best.n)
        ]
        rows = np.repeat(np.arange(3), len(chosen) // 3)
        assert best.proxy == pytest.approx(proxy[rows, chosen].mean())
        assert best.gold == pytest.approx(gold[rows, chosen].mean())
        assert best.kl == pytest.approx(math.log(best.n) - (best.n - 1) / best.n)


def test_sizes_are_powers_of_two_unless_given():
    assert [best.n for best in best_of_n(np.zeros((1, 9)), np.zeros((1, 9)))] == [1, 2, 4, 8]
