"""Intervals for comparisons on the same scenes: a paired percentile bootstrap over scenes.

Owns resampling and the few statistics that a report prints: a ratio, its relative and absolute change, the
share of a gap that was closed, and the smallest change that a set of scenes could have shown. Knows nothing
of models, metrics or files: it takes one numerator and one denominator per scene (hallucinated objects over
mentioned objects, say).

The method is Efron's percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). Scenes are drawn with replacement, and a scene brings along everything that any of the compared
models said about it, so what makes a scene hard cancels out. Left out: bias correction (BCa). Several seeds
of training and corrections for many comparisons are in seeds.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[..., Floats]
"""Takes the rates of each arm, one entry per resample, and gives one value per resample."""

_CHUNK_CELLS = 1 << 19
"""Scenes times resamples drawn at a time: small enough for the cache of a core."""
_KEPT_CELLS = 1 << 25
"""Draws up to this size (64 MiB) are kept, since a table asks for the same draw many times."""


class UndefinedError(ValueError):
    """The statistic has no value on these scenes, or none that an interval could describe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with the range that holds the true value at the stated level.

    Example: `Interval(estimate=0.12, low=0.10, high=0.14)` reads "12%, 95% interval 10% to 14%".
    """

    estimate: float
    """The statistic on the scenes as they are."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    level: float = 0.95
    """Share of such intervals that hold the true value."""

    def excludes(self, value: float) -> bool:
        """Whether the interval is clear of `value`."""
        return value < self.low or value > self.high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ratio:
    """What one model did, scene by scene: a count of events over a count of chances.

    Example: two scenes with 3 and 2 mentioned objects, one of them absent:
    `Ratio(numerator=np.array([1, 0]), denominator=np.array([3, 2]))` is a rate of 1 / 5.
    """

    numerator: Floats
    """Events per scene."""
    denominator: Floats
    """Chances per scene: 0 where there was none; ones for an ordinary mean over scenes."""

    def __post_init__(self) -> None:
        """Refuse what is no count per scene."""
        top, bottom = np.asarray(self.numerator, np.float64), np.asarray(self.denominator, np.float64)
        if top.ndim != 1 or top.shape != bottom.shape or not top.size:
            raise ValueError(
                f"ratio: numerator has shape {top.shape} and denominator {bottom.shape}; give one of each per scene"
            )
        if not (np.isfinite(top).all() and np.isfinite(bottom).all()):
            raise ValueError("ratio: a count is not finite; leave scenes without a value out of every model alike")
        if (bottom < 0).any():
            raise ValueError(f"ratio: a denominator is {bottom.min():g}; denominators are counts, 0 or more")
        object.__setattr__(self, "numerator", top)
        object.__setattr__(self, "denominator", bottom)

    def columns(self) -> Floats:
        """Numerators and denominators side by side: [scenes, 2]."""
        return np.stack([self.numerator, self.denominator], axis=1)


def paired_bootstrap(
    *arms: Ratio, statistic: Statistic, resamples: int = 10_000, seed: int, level: float = 0.95
) -> Interval:
    """The interval of a statistic of one or several models' rates on the same scenes.

    The draw depends on the number of scenes, `resamples` and `seed` alone: every interval of a table made
    with one seed rests on the same resampled sets of scenes.
    """
    _check_arms(arms, resamples=resamples, level=level)
    totals = resampled_totals(np.concatenate([arm.columns() for arm in arms], axis=1), resamples, seed)
    rates = [
        _divide(totals[:, 2 * i], totals[:, 2 * i + 1], "the ratio: the sum of its denominators")
        for i in range(len(arms))
    ]
    values = statistic(*rates)
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=float(values[0]), low=float(low), high=float(high), level=level)


def ratio(arm: Ratio, *, resamples: int = 10_000, seed: int, level: float = 0.95) -> Interval:
    """Sum of numerators over sum of denominators, with its interval."""
    return paired_bootstrap(arm, statistic=lambda rate: rate, resamples=resamples, seed=seed, level=level)


def interval_of_mean(values: ArrayLike, *, resamples: int = 10_000, seed: int, level: float = 0.95) -> Interval:
    """The mean of one value per scene, with its interval."""
    numerator = np.asarray(values, np.float64)
    arm = Ratio(numerator=numerator, denominator=np.ones_like(numerator))
    return ratio(arm, resamples=resamples, seed=seed, level=level)


def absolute_change(
    before: Ratio, after: Ratio, *, resamples: int = 10_000, seed: int, level: float = 0.95
) -> Interval:
    """after - before, in the unit of the rates (0.02 is two points)."""
    return paired_bootstrap(before, after, statistic=lambda b, a: a - b, resamples=resamples, seed=seed, level=level)


def relative_change(
    before: Ratio, after: Ratio, *, resamples: int = 10_000, seed: int, level: float = 0.95
) -> Interval:
    """after / before - 1: -0.4 is forty percent fewer."""

    def statistic(b: Floats, a: Floats) -> Floats:
        return _divide(a, b, "the relative change: the rate before") - 1

    return paired_bootstrap(before, after, statistic=statistic, resamples=resamples, seed=seed, level=level)


def gap_closed(
    base: Ratio, tuned: Ratio, ceiling: Ratio, *, resamples: int = 10_000, seed: int, level: float = 0.95
) -> Interval:
    """(base - tuned) / (base - ceiling): 0 is the base, 1 the ceiling, whichever way is better.

    Refused (UndefinedError) where base and ceiling are too alike: when the gap vanishes or changes sign in
    any resample, a share of it has no usable interval.
    """

    def statistic(b: Floats, t: Floats, c: Floats) -> Floats:
        return _divide(b - t, b - c, "the share of the gap: the gap between base and ceiling")

    return paired_bootstrap(base, tuned, ceiling, statistic=statistic, resamples=resamples, seed=seed, level=level)


def min_detectable_effect(
    before: Ratio, after: Ratio, *, num_scenes: int | None = None, level: float = 0.95, power: float = 0.8
) -> float:
    """The smallest true absolute change that `num_scenes` such scenes would show with the given power.

    `before` and `after` are a pilot: they say how much the two models differ from scene to scene. Without
    `num_scenes` it is the pilot's own size. Normal approximation; each ratio is linearised around its value
    (the delta method).
    """
    if not (0 < level < 1 and 0 < power < 1):
        raise ValueError(f"min_detectable_effect: level {level} and power {power} must lie between 0 and 1")
    _check_arms((before, after), resamples=1, level=level)
    size = len(before.columns()) if num_scenes is None else num_scenes
    if size < 1:
        raise ValueError(f"min_detectable_effect: num_scenes is {size}; give at least 1")
    deviation = float(np.std(_influence(after) - _influence(before)))
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * deviation / size**0.5


def plain_bootstrap(
    *arms: Ratio, statistic: Statistic, resamples: int = 10_000, seed: int, level: float = 0.95
) -> Interval:
    """The slow twin of `paired_bootstrap`, one resample after another; tests hold the two together."""
    tables = [arm.columns() for arm in arms]
    samples = [np.arange(len(tables[0]))]
    samples += [row for indices in _index_chunks(len(tables[0]), resamples, seed) for row in indices]
    values = []
    for sample in samples:
        totals = [table[sample].sum(axis=0) for table in tables]
        values.append(statistic(*(np.array([top / bottom]) for top, bottom in totals))[0])
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=float(values[0]), low=float(low), high=float(high), level=level)


def _check_arms(arms: tuple[Ratio, ...], *, resamples: int, level: float) -> None:
    if not arms:
        raise ValueError("paired_bootstrap: no ratio was given; give one per model")
    sizes = sorted({len(arm.columns()) for arm in arms})
    if len(sizes) > 1:
        listed = " and ".join(str(size) for size in sizes)
        raise ValueError(f"paired_bootstrap: the models were measured on {listed} scenes; measure all on the same ones")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"paired_bootstrap: resamples is {resamples} and level {level}; "
            "give at least 1 resample, and a level between 0 and 1"
        )


def resampled_totals(columns: Floats, resamples: int, seed: int) -> Floats:
    """Column sums over the scenes as they are (row 0), then over each resample: [1 + resamples, columns]."""
    num_scenes = len(columns)
    if num_scenes * resamples <= _KEPT_CELLS:
        chunks: Iterator[NDArray[np.uint16]] = iter(_kept_weights(num_scenes, resamples, seed))
    else:
        chunks = _weight_chunks(num_scenes, resamples, seed)
    return np.concatenate(
        [columns.sum(axis=0, keepdims=True), *(chunk.astype(np.float64) @ columns for chunk in chunks)]
    )


@lru_cache(maxsize=1)
def _kept_weights(num_scenes: int, resamples: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    return tuple(_weight_chunks(num_scenes, resamples, seed))


def _weight_chunks(num_scenes: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """How often each scene is drawn: [resamples of the chunk, scenes]. No scene is drawn 65,536 times."""
    for indices in _index_chunks(num_scenes, resamples, seed):
        offsets = np.arange(len(indices))[:, None] * num_scenes
        counts = np.bincount((indices + offsets).ravel(), minlength=indices.size)
        yield counts.reshape(indices.shape).astype(np.uint16)


def _index_chunks(num_scenes: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The scenes of each resample: [resamples of the chunk, scenes]."""
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK_CELLS // num_scenes)
    for start in range(0, resamples, rows):
        yield generator.integers(0, num_scenes, size=(min(rows, resamples - start), num_scenes))


def _divide(top: Floats, bottom: Floats, what: str) -> Floats:
    """top / bottom, refused where bottom is not clear of 0; entry 0 is the estimate, the rest resamples."""
    if bottom[0] == 0:
        raise UndefinedError(f"{what} is 0 over all scenes, so it is undefined; measure scenes where it is not")
    num_bad = int((np.sign(bottom[1:]) != np.sign(bottom[0])).sum())
    if num_bad:
        raise UndefinedError(
            f"{what} vanishes or changes sign in {num_bad} of {len(bottom) - 1} resamples, "
            "so it has no usable interval; measure more scenes, or report the absolute change"
        )
    return top / bottom


def _influence(arm: Ratio) -> Floats:
    """What each scene adds to the ratio: (numerator - rate * denominator) / mean denominator."""
    top, bottom = arm.columns().T
    if bottom.sum() == 0:
        raise UndefinedError("the ratio: the sum of its denominators is 0, so it is undefined; measure other scenes")
    return (top - top.sum() / bottom.sum() * bottom) / bottom.mean()
