"""Means over training seeds: intervals that hold both sources of chance, and tests corrected for their number.

A figure of a method varies with the scenes that were drawn and with the seed of training. Both are added in squares:
the bootstrap's half-width over scenes, and Student's t over seeds. Its p-value is the smallest level at which the
interval still reaches zero, the scenes' part taken as normal. Several comparisons in one table are corrected by Holm
(A simple sequentially rejective multiple test procedure, 1979), which assumes nothing about how they depend on each
other. Knows no models and no metrics.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Draws = NDArray[np.float64]
"""The statistic on the scenes as they are, then on every resampled set of scenes."""
LEVEL = 0.95
SMALLEST = 1e-6
"""No p-value below this is told: the bootstrap behind it has a few thousand draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of a method: mean over seeds, 95% interval over scenes and seeds, and each seed.

    Example: three seeds at 74%, 75% and 76% on scenes that alone give 74% to 76%: `Figure(estimate=0.75, low=0.723,
    high=0.777, seeds=(0.74, 0.75, 0.76))`, since three seeds a point apart leave 2.5 points to either side.
    """

    estimate: float
    """Mean over seeds."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    seeds: tuple[float, ...]
    """Each seed's figure."""

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def figure_of(draws: Sequence[Draws]) -> Figure:
    """Mean over the seeds' draws, which share their resampled scenes."""
    together = np.mean(np.stack(draws), axis=0)
    low, high = np.quantile(together[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return with_spread(float(together[0]), float(low), float(high), [float(one[0]) for one in draws])


def with_spread(estimate: float, low: float, high: float, seeds: Sequence[float]) -> Figure:
    """A mean over seeds whose interval knew the scenes alone, with the spread of its seeds added."""
    spread = _seed_width(seeds, 1 - LEVEL)
    return Figure(
        estimate=estimate,
        low=estimate - math.hypot(estimate - low, spread),
        high=estimate + math.hypot(high - estimate, spread),
        seeds=tuple(seeds),
    )


def p_value(figure: Figure) -> float:
    """How surely a difference is none: the level at which its interval just reaches 0; 1 where it is 0."""
    distance = abs(figure.estimate)
    if distance == 0:
        return 1.0
    width = figure.estimate - figure.low if figure.estimate > 0 else figure.high - figure.estimate
    over_seeds = _seed_width(figure.seeds, 1 - LEVEL)
    scenes = math.sqrt(max(0.0, width**2 - over_seeds**2)) / NormalDist().inv_cdf((1 + LEVEL) / 2)

    def reaches(level: float) -> bool:
        normal = NormalDist().inv_cdf(1 - level / 2) * scenes
        return math.hypot(normal, _seed_width(figure.seeds, level)) >= distance

    below, above = SMALLEST, 1.0
    if not reaches(below):
        return SMALLEST
    for _ in range(60):  # the width shrinks as the level grows: bisection
        middle = (below + above) / 2
        below, above = (middle, above) if reaches(middle) else (below, middle)
    return above


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for their number: those below 0.05 are all real at once in 95% of such tables."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    found: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        found[name] = largest
    return {name: found[name] for name in p_values}


def _seed_width(seeds: Sequence[float], level: float) -> float:
    """Half the width of Student's interval of the seeds' mean; 0 with one seed, which says nothing of others."""
    if len(seeds) < 2:
        return 0.0
    return float(student.ppf(1 - level / 2, len(seeds) - 1)) * stdev(seeds, mean(seeds)) / math.sqrt(len(seeds))
