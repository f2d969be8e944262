"""Axes of a chart: a range of values over a range of pixels, with ticks that a person would choose.

Owns where ticks stand and how they are written. Knows nothing of what is drawn.
"""

import math
from dataclasses import dataclass

from sightline.reports.page import compact, fixed

_FLAT = 5e-3
"""A range narrower than this share of its values is widened to it: ticks would else read the same, five times over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A range of values laid over a range of pixels, with round ticks."""

    low: float
    """Value at `start`."""
    high: float
    """Value at `end`."""
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`; may lie before `start` (SVG counts downwards)."""
    ticks: tuple[float, ...]
    """Round values within the range."""
    step: float
    """Distance of two ticks; 0 on a logarithmic axis."""
    log: bool = False
    """Whether equal ratios are equally far apart."""

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = math.log10(value) if self.log else value
        return self.start + (place - low) / (high - low) * (self.end - self.start)

    def label(self, tick: float) -> str:
        """A tick in as many digits as tell it from its neighbours."""
        if self.log:
            return f"{tick:g}"
        if abs(tick) >= 1e5 or 0 < self.step < 1e-4:
            return compact(tick)
        power = math.floor(math.log10(self.step) + 1e-9)
        extra = round(self.step / 10.0**power, 6) == 2.5
        return fixed(tick, max(0, extra - power))


def axis(low: float, high: float, *, start: float, end: float, num_ticks: int = 5, whole: bool = False) -> Axis:
    """An axis over at least `low` to `high`; `whole` keeps ticks at whole numbers (steps, epochs)."""
    narrow = _FLAT * max(abs(low), abs(high))
    if high - low < narrow and not whole:
        middle = (low + high) / 2
        low, high = middle - narrow / 2, middle + narrow / 2
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = (low - margin, high + margin) if low or whole else (0.0, 1.0)
    raw = (high - low) / num_ticks
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= raw * 0.8)
    if whole:
        step = 5.0 if step == 2.5 else max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    ticks = tuple((first + i) * step for i in range(count))
    return Axis(low=low, high=high, start=start, end=end, ticks=ticks, step=step)


def log_axis(low: float, high: float, *, start: float, end: float) -> Axis:
    """An axis of equal ratios over at least `low` to `high`, both above 0; ticks at powers of ten, or at 1, 2, 5."""
    if low <= 0:
        raise ValueError(f"a logarithmic axis cannot show {low}; leave out what is not above 0")
    if high <= low:
        low, high = low / 2, high * 2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    least, most = low * (1 - 1e-9), high * (1 + 1e-9)
    within = [10.0**power for power in powers if least <= 10.0**power <= most]
    if len(within) < 3:
        within = [f * 10.0**power for power in powers for f in (1, 2, 5) if least <= f * 10.0**power <= most]
    return Axis(low=low, high=high, start=start, end=end, ticks=tuple(within), step=0.0, log=True)
