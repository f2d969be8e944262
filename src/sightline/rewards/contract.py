"""What a reward is: a plain function from an answer and what is known about its prompt to a number.

A reward is `reward(completion, context, *, option=...)` and gives a float, a `Score` with named parts, or None when
it has no opinion (the answer is then left out of the update, and counted). Options are keyword-only parameters with
defaults, so that recipes can name them and curricula can move them. Nothing here runs what a model wrote.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A reward with the parts that it was made of; parts are logged apart.

    Example: `Score(value=2.4, parts={"format": 1.0, "recall": 0.5, "precision": 0.9})`.
    """

    value: float
    """The reward."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named parts, for the log; they need not add up to the value."""
    placed: tuple[tuple[int, float], ...] = ()
    """What is earned where: (characters of the text read so far, amount). Objectives that weigh tokens one by one lay
    each amount on the token that ends there, and what is left of the value on the last token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardContext:
    """What a reward may look at besides the answer.

    Example: `RewardContext(truth={"objects": [{"label": "cat", "box": [4, 6, 24, 26]}]}, image_size=(640, 480),
    seen_size=(644, 476))`.
    """

    truth: Mapping[str, Any]
    """The prompt's truth, plain JSON; boxes in pixels of the original picture."""
    prompt: str = ""
    """Text of the last user message."""
    task: str | None = None
    """Name of the prompt's task, when it has one."""
    image_size: tuple[int, int] | None = None
    """Width and height of the first picture as stored."""
    seen_size: tuple[int, int] | None = None
    """Width and height that the model saw; None: as stored."""
    progress: float = 0.0
    """Share of the run that is done, 0 to 1."""
    max_tokens: int | None = None
    """Where answers are cut."""
    load_image: Callable[[], Any] | None = None
    """Decodes the first picture (a PIL image), for rewards that look."""
    given: Mapping[str, "Score | None"] = field(default_factory=dict)
    """What models have said of this answer beforehand, by the label of the reward (rewards/models)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the rewards say of one answer.

    Example: `Judged(value=2.4, parts={"vision_r1": 2.4, "vision_r1/recall": 0.5})`.
    """

    value: float | None
    """The reward; None leaves the answer out of the update."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Each reward and its parts, for the log."""
    placed: tuple[tuple[int, float], ...] = ()
    """What of the value is earned before the end, as in `Score`."""
    problem: str | None = None
    """What went wrong, when something did."""


Reward = Callable[..., "float | Score | None"]


def scored(given: Any) -> Score | None:
    """What a reward gave back as a Score; ValueError says what is wrong with it."""
    if given is None:
        return None
    score = given if isinstance(given, Score) else None
    if score is None:
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            kind = type(given).__name__
            raise ValueError(f"the reward gave {kind}; give back a number, a Score, or None for no opinion")
        score = Score(value=float(given))
    for name, value in {"value": score.value, **score.parts}.items():
        if not math.isfinite(value):
            raise ValueError(f"the reward's {name} is {value}; give back finite numbers")
    for place, amount in score.placed:
        if place < 0 or not math.isfinite(amount):
            raise ValueError(f"the reward places {amount} at character {place}; give finite numbers, places from 0 on")
    return score
