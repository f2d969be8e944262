"""How many scenes a core draws in a second, and how long the interval of a report takes.

python bench/world_speed.py
"""

import time

import numpy as np

from sightline.evaluation.statistics import Ratio, gap_closed
from sightline.world.scenes import draw, make_scene

NUM_DRAWN, NUM_SCORED = 3_000, 2_000


def main() -> None:
    """Print both."""
    print(f"{scenes_a_second():.0f} scenes a second on one core")
    print(f"{interval_seconds():.2f} s for the share of the gap over {NUM_SCORED:,} scenes, 10,000 resamples")


def scenes_a_second() -> float:
    """Made and drawn."""
    for index in range(50):
        draw(make_scene("train", index))
    began = time.perf_counter()
    for index in range(NUM_DRAWN):
        draw(make_scene("train", index))
    return NUM_DRAWN / (time.perf_counter() - began)


def interval_seconds() -> float:
    """Of three arms whose rates are 25%, 20% and 5%."""
    generator = np.random.default_rng(0)
    named = generator.integers(1, 6, NUM_SCORED)
    base, tuned, ceiling = (
        Ratio(numerator=generator.binomial(named, rate), denominator=named) for rate in (0.25, 0.2, 0.05)
    )
    began = time.perf_counter()
    gap_closed(base, tuned, ceiling, seed=11)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
