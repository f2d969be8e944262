"""How many detection answers a second the box rewards score: one process, and one per core.

    python bench/reward_speed.py --seconds 2

Answers are like those of the embedded world: 1 to 6 objects, most boxes near right, some surplus, some malformed. The
last rows are answers of 20,000 characters. Exits with 1 when `vision_r1` stays below the floor on two processes.
"""

import argparse
import json
import multiprocessing
import random
import time

from sightline.records import Completion
from sightline.rewards.contract import RewardContext
from sightline.rewards.detection import box_f1, mean_average_precision, od_length, vision_r1, visual_rft

FLOOR = 5_000
REWARDS = {
    "vision_r1": vision_r1,
    "map": mean_average_precision,
    "od_length": od_length,
    "visual_rft": visual_rft,
    "box_f1": box_f1,
}
MEASURED = [
    ("vision_r1", {}),
    ("vision_r1", {"mode": "paper"}),
    ("vision_r1", {"mode": "released"}),
    ("map", {}),
    ("od_length", {}),
    ("visual_rft", {}),
    ("box_f1", {}),
    ("map", {"form": "vlm_r1"}),
]
Case = tuple[Completion, RewardContext]


def main() -> None:
    """Print a table of rates, then the longest time of one huge answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row and number of processes")
    seconds = parser.parse_args().seconds
    rates = {}
    print(f"{'reward':34}{'1 process':>12}{'2 processes':>14}   answers a second")
    for name, options in MEASURED:
        alone, both = measure(name, options, seconds, 1), measure(name, options, seconds, 2)
        rates[name, json.dumps(options)] = both
        print(f"{title(name, options):34}{alone:12,.0f}{both:14,.0f}")
    print("\nhuge answers (20,000 characters, some 350 boxes), longest of three, ms")
    for name, options in MEASURED:
        print(f"{title(name, options):34}{1000 * slowest(name, options, huge_cases()):12.1f}")
    if rates["vision_r1", "{}"] < FLOOR:
        raise SystemExit(f"vision_r1 scores fewer than {FLOOR:,} answers a second on two processes")


def measure(name: str, options: dict[str, object], seconds: float, num_processes: int) -> float:
    """Answers a second of so many processes together."""
    jobs = [(name, options, seconds, seed) for seed in range(num_processes)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        return sum(pool.starmap(rate, jobs, chunksize=1))


def rate(name: str, options: dict[str, object], seconds: float, seed: int) -> float:
    """Answers a second of this process."""
    reward, cases = REWARDS[name], world_cases(seed)
    num_scored, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for completion, context in cases:
            reward(completion, context, **options)
        num_scored += len(cases)
    return num_scored / (time.perf_counter() - began)


def slowest(name: str, options: dict[str, object], cases: list[Case]) -> float:
    """Seconds of the slowest case."""
    took = []
    for completion, context in cases:
        began = time.perf_counter()
        REWARDS[name](completion, context, **options)
        took.append(time.perf_counter() - began)
    return max(took)


def title(name: str, options: dict[str, object]) -> str:
    """Name and options in one word."""
    return " ".join([name, *(f"{key}={value}" for key, value in options.items())])


def world_cases(seed: int, number: int = 500) -> list[Case]:
    """Answers as a half-trained model of the embedded world gives them, with their truth."""
    return [_case(random.Random(1000 * seed + i), image_size=(96, 96), seen_size=(64, 64)) for i in range(number)]


def huge_cases() -> list[Case]:
    """Long answers about thirty objects: one object over and over, boxes at random, one cluster."""
    draw = random.Random(0)
    size = (1000, 1000)
    objects = [{"label": "cup", "box": _box(draw, 1000)} for _ in range(30)]
    context = RewardContext(truth={"objects": objects}, image_size=size, seen_size=size)
    same, anywhere = [objects[0]["box"]] * 350, [_box(draw, 1000) for _ in range(350)]
    cluster = [[400 + draw.randint(0, 9), 400, 600, 600 - draw.randint(0, 9)] for _ in range(350)]
    return [(Completion(text=_text([("cup", box) for box in boxes])), context) for boxes in (same, anywhere, cluster)]


def _case(draw: random.Random, *, image_size: tuple[int, int], seen_size: tuple[int, int]) -> Case:
    colours, shapes = ("red", "blue", "green", "orange"), ("circle", "square", "star", "cross")
    objects = [
        {"label": f"{draw.choice(colours)} {draw.choice(shapes)}", "box": _box(draw, image_size[0])}
        for _ in range(draw.randint(1, 6))
    ]
    share = seen_size[0] / image_size[0]
    given = [
        (item["label"], [max(0, round(corner * share) + draw.choice((0, 0, 1))) for corner in item["box"]])
        for item in objects
        if draw.random() < 0.9
    ]
    given += [(draw.choice(colours) + " star", _box(draw, seen_size[0])) for _ in range(draw.choice((0, 0, 1)))]
    text = _text(given)
    text = text[:-4] if draw.random() < 0.05 else text
    context = RewardContext(truth={"objects": objects}, image_size=image_size, seen_size=seen_size)
    return Completion(text=text), context


def _box(draw: random.Random, size: int) -> list[int]:
    width, height = draw.randint(size // 8, size // 3), draw.randint(size // 8, size // 3)
    left, top = draw.randint(0, size - width), draw.randint(0, size - height)
    return [left, top, left + width, top + height]


def _text(items: list[tuple[str, list[int]]]) -> str:
    return json.dumps([{"bbox_2d": box, "label": label} for label, box in items])


if __name__ == "__main__":
    main()
