"""Judges for the pool's tests, as a user would write them: good, broken, hanging, dying."""

import os
import time
from collections.abc import Callable

from sightline.rewards.contract import Score
from sightline.rewards.pool import Call


def length_judge(scale: float = 1.0) -> Callable[[Call], float | Score | None]:
    """Length of the answer, with a trap for each way to fail."""

    def judge(call: Call) -> float | Score | None:
        text = call.completion.text
        if text == "raise":
            raise KeyError("objects")
        if text == "hang":
            time.sleep(60)
        if text == "die":
            os._exit(3)
        if text == "nan":
            return float("nan")
        if text == "none":
            return None
        placed = {"placed": ((2, 0.5), (4, -1.5)), "misplaced": ((-1, 0.5),)}.get(text, ())
        return Score(value=scale * len(text), parts={"letters": float(len(text))}, placed=placed)

    return judge


def broken_judge() -> Callable[[Call], float]:
    """Cannot even be made."""
    raise ImportError("no module named mended_later")
