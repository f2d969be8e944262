"""How far ratings can be trusted: accuracy on comparisons, what a difference means, and best of N as a stress test.

A comparison is the difference of two ratings, better less worse by the source's word: right when above 0. A
calibration says with which probability the better one wins. Knows no model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, gammaln

from sightline.evaluation.statistics import Interval, Ratio, ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a difference of two ratings means.

    Example: `Calibration(temperature=0.5, lapse=0.1)`: a difference of 1 says that the better one wins with
    probability 0.1 + 0.8 / (1 + exp(-2)) = 0.80; however large it is, one time in ten the source says the contrary.
    """

    temperature: float = 1.0
    """Differences are divided by it."""
    lapse: float = 0.0
    """How often the source errs where the ratings leave no doubt, and the ratings where they have none."""

    def sure(self, differences: Floats) -> Floats:
        """Probability that the better rated one wins."""
        return self.lapse + (1 - 2 * self.lapse) * expit(np.abs(differences) / self.temperature)


def fit_calibration(differences: Floats, *, lapse: float | None = None) -> Calibration:
    """The calibration under which the comparisons are most likely; with a given lapse the temperature alone (Guo et al.
    2017). Temperatures are between 0.001 and 1000, lapses below 0.5 (as those of observers in psychophysics: without
    one, comparisons of a source that errs at random make ratings look surer than they are, wherever they differ)."""
    bounds = [(-math.log(1000), math.log(1000)), (0.0, 0.49) if lapse is None else (lapse, lapse)]

    def loss(given: Floats) -> float:
        won = given[1] + (1 - 2 * given[1]) * expit(differences / math.exp(given[0]))
        few = -math.log(1 - 2 * given[1]) / len(differences)  # a handful of comparisons proves no large lapse
        return float(-np.log(np.maximum(won, 1e-300)).mean()) + few

    starts = ((at, start) for at in (-2.0, 0.0, 2.0) for start in ((0.02, 0.2) if lapse is None else (lapse,)))
    found = min((minimize(loss, start, bounds=bounds) for start in starts), key=lambda one: float(one.fun))
    return Calibration(temperature=math.exp(float(found.x[0])), lapse=float(found.x[1]))


def expected_calibration_error(differences: Floats, calibration: Calibration, *, num_bins: int = 10) -> float:
    """Mean gap between how sure the ratings are of the likelier side and how often it wins, over bins of sureness."""
    sure = calibration.sure(differences)
    right = differences > 0
    bins = np.minimum(((sure - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
    gaps = [
        abs(float(sure[bins == b].sum() - right[bins == b].sum())) for b in range(num_bins) if bool((bins == b).any())
    ]
    return sum(gaps) / len(differences)


def accuracy(differences: Floats, prompts: Sequence[int], *, seed: int = 0) -> Interval:
    """Share of comparisons ranked right, with its interval over prompts; equal ratings count half."""
    right = (differences > 0) + 0.5 * (differences == 0)
    _, of_prompt = np.unique(np.asarray(prompts), return_inverse=True)
    events, chances = np.bincount(of_prompt, right).astype(np.float64), np.bincount(of_prompt).astype(np.float64)
    return ratio(Ratio(numerator=events, denominator=chances), seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """Best of n by the proxy. Example: `Best(n=4, kl=0.64, proxy=1.03, gold=0.8)`."""

    n: int
    """Answers to choose from."""
    kl: float
    """Divergence of choosing so from the policy, at most: log n - (n - 1) / n."""
    proxy: float
    """Mean rating of what is chosen."""
    gold: float
    """Mean of the true measure of what is chosen."""


def best_of_n(proxy: Floats, gold: Floats, *, sizes: Sequence[int] | None = None) -> list[Best]:
    """What choosing the best of n by the proxy gives, for n up to the number of answers [prompts, answers].

    Every choice of n of the N answers counts, not one draw: with an answer's rank r by the proxy (1 the worst), it is
    the best in C(r - 1, n - 1) of the C(N, n) choices (Nakano et al. 2021, appendix I). Equal ratings are ranked as
    they lie.
    """
    num = proxy.shape[1]
    order = np.argsort(proxy, axis=1, kind="stable")
    ranked_proxy, ranked_gold = (np.take_along_axis(values, order, 1).mean(0) for values in (proxy, gold))
    ranks = np.arange(1, num + 1)
    found = []
    for n in sizes or [2**k for k in range(int(math.log2(num)) + 1)]:
        with np.errstate(divide="ignore"):
            log_share = _log_choose(ranks - 1, n - 1) - _log_choose(np.asarray([num]), n)
        share = np.where(ranks >= n, np.exp(log_share), 0.0)
        kl = math.log(n) - (n - 1) / n
        found.append(Best(n=n, kl=kl, proxy=float(share @ ranked_proxy), gold=float(share @ ranked_gold)))
    return found


def _log_choose(total: NDArray[np.int64], chosen: int) -> Floats:
    left = np.maximum(total - chosen, 0)
    return np.where(total >= chosen, gammaln(total + 1) - gammaln(chosen + 1) - gammaln(left + 1), -np.inf)
