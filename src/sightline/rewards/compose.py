"""Several rewards as one: weights, clipping, gates, and the two orders of normalising and summing.

Every reward and every part of it is kept under its name. What happens when a reward raises or gives NaN is not decided
here: the error, with the reward's name in it, goes up to whoever runs the rewards.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.records import Completion
from sightline.registry import check_options, did_you_mean
from sightline.rewards.contract import Reward, RewardContext, Score, scored
from sightline.rewards.curriculum import Curriculum, parse_schedule, value_at
from sightline.rewards.text import sentence_ends

HOW = ("sum", "sum_then_normalise", "normalise_then_sum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One reward among several.

    Example: `Part(name="boxes", reward=find("reward", "vision_r1"), weight=0.5, options={"mode": "paper"})`.
    """

    name: str
    """Its name in the log; its parts are logged as "name/part"."""
    reward: Reward
    """The function."""
    weight: float = 1.0
    """Factor in the sum; 0 keeps it for the log and for its gate."""
    clip: tuple[float, float] | None = None
    """Bounds of its value before it is weighted."""
    gate: float | None = None
    """When its value (before clipping) is below this, nothing that the answer earned counts."""
    optional: bool = False
    """Whether the answer still counts when this reward has no opinion."""
    tasks: tuple[str, ...] = ()
    """Tasks of the prompts that it is asked about; on others it is no part of the sum. Empty: all."""
    at: Literal["end", "sentence"] = "end"
    """Where it is earned: as the reward says (else at the end), or at the end of each sentence what that one added."""
    given: bool = False
    """Whether a model has given its value beforehand, in the context, under its name."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the function; schedules too, as plain data."""

    def __post_init__(self) -> None:
        """ValueError names what is wrong; options are checked against the function."""
        if not self.name or "/" in self.name:
            raise ValueError(f"a reward is named {self.name!r}; give it a name without a slash")
        if not math.isfinite(self.weight):
            raise ValueError(f"{self.name}: weight is {self.weight}; give a finite number")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"{self.name}: clip is {list(self.clip)}; give the lower bound first")
        check_options(self.reward, self.options)
        for option, given in self.options.items():
            parse_schedule(given, f"{self.name}.{option}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """Several rewards as one: the weighted sum of the clipped values.

    A closed gate takes away what an answer earned and leaves what it lost: the value is then `else_value` plus the
    weighted values that are below 0. Closing a gate therefore never pays. An answer on which a reward has no opinion
    (None) gets None, unless that part is optional or for other tasks: then it is left out of the sum, its gate stays
    open, and only when every part has no opinion the answer gets None.

    Example: `Composed(parts=(Part(name="form", reward=format_match, gate=1.0, weight=0.0), Part(...)))`.
    """

    parts: tuple[Part, ...]
    """The rewards, in the order of the log."""
    else_value: float = 0.0
    """What an answer gets for nothing else when a gate is closed; not above 0."""

    def __post_init__(self) -> None:
        """Names are unique, and a closed gate pays nothing."""
        names = [part.name for part in self.parts]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if not names or repeated is not None:
            problem = f"two rewards are named {repeated!r}" if names else "there is no reward"
            raise ValueError(f"{problem}; give one or more, each with a name of its own")
        if not -math.inf < self.else_value <= 0:
            raise ValueError(f"else_value is {self.else_value}; a closed gate must not pay, so give 0 or less")

    def score(
        self,
        completion: Completion,
        context: RewardContext,
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Score | None:
        """The sum, with every reward (clipped, unweighted) as "name", its parts as "name/part", gates as "name/gate".

        `options` by name are a curriculum's values for now; what they lack is each part's own, at the progress of
        the context and on the first level of what a skill drives.
        """
        now = options or {}
        asked = [part for part in self.parts if not part.tasks or context.task in part.tasks]
        given = {part.name: _judge(part, completion, context, now.get(part.name, {})) for part in asked}
        if any(given[part.name] is None and not part.optional for part in asked):
            return None
        scores = {name: score for name, score in given.items() if score is not None}
        if not scores:
            return None
        logged: dict[str, float] = {}
        for part in self.parts:
            if (score := scores.get(part.name)) is not None:
                logged |= _logged(part, score)
        counted = self._counted(logged)
        weighted = zip((*(part.weight for part in self.parts), 1.0), counted, strict=True)
        placed = tuple(
            (place, part.weight * amount)
            for part, value in zip(self.parts, counted, strict=False)
            if part.name in scores and value == scores[part.name].value  # neither clipped nor behind a closed gate
            for place, amount in scores[part.name].placed
        )
        value = math.fsum(weight * value for weight, value in weighted if value == value)
        return Score(value=value, parts=logged, placed=placed)

    def curriculum(self) -> Curriculum:
        """The options of all parts with their schedules, at the start."""
        return Curriculum({part.name: part.options for part in self.parts})

    def combined(
        self, scores: Sequence[Sequence[Score | None]], how: str = "sum", *, epsilon: float = 1e-4
    ) -> NDArray[np.float64]:
        """One number per answer of a step's groups, [groups, answers], by the function `combine`.

        NaN: an answer without a score, and a place without an answer in a shorter group. `sum` gives the scores'
        own values again. What closed gates give is normalised as one more reward.
        """
        table = np.full((len(scores), max(map(len, scores), default=0), len(self.parts) + 1), np.nan)
        for g, group in enumerate(scores):
            for i, score in enumerate(group):
                if score is not None:
                    table[g, i] = self._counted(score.parts)
        weights = [part.weight for part in self.parts]
        optional = [part.optional or bool(part.tasks) for part in self.parts]
        return combine(table, [*weights, 1.0], how, optional=[*optional, False], epsilon=epsilon)

    def _counted(self, logged: Mapping[str, float]) -> list[float]:
        """The values that enter the sum, unweighted; last, what closed gates give. NaN: no opinion."""
        closed = any(part.gate is not None and logged.get(f"{part.name}/gate") == 0 for part in self.parts)
        found = [(part.weight, logged.get(part.name, math.nan)) for part in self.parts]
        counted = [0.0 if closed and weight * value >= 0 else value for weight, value in found]
        return [*counted, self.else_value * closed]


def combine(
    values: NDArray[np.float64],
    weights: Sequence[float] | NDArray[np.float64],
    how: str = "sum",
    *,
    optional: Sequence[bool] | None = None,
    epsilon: float = 1e-4,
) -> NDArray[np.float64]:
    """One number per answer, [groups, answers], from the values [groups, answers, rewards] of a whole step.

    `sum`: the weighted sum. `sum_then_normalise`: that, less its group's mean, over its group's standard deviation
    (n - 1) plus `epsilon`. `normalise_then_sum`: every reward normalised so within its group, then the weighted sum,
    then that normalised over all answers of the step (GDPO): a reward on a small scale is heard as well as one on a
    large scale. NaN stands for no opinion: the answer is left out (NaN) unless the reward is `optional`. What does
    not vary gives exactly 0.
    """
    if how not in HOW:
        raise ValueError(f"how is {how!r}{did_you_mean(str(how), HOW)}")
    grid, factors = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if grid.ndim != 3 or factors.shape != grid.shape[2:] or np.isinf(grid).any():
        problem = f"values are {list(grid.shape)} and weights {list(factors.shape)}"
        raise ValueError(f"{problem}; give finite values [groups, answers, rewards] and one weight per reward")
    needed = np.full(len(factors), True) if optional is None else ~np.asarray(optional, dtype=bool)
    out = np.asarray(np.isnan(grid[..., needed]).any(-1) | np.isnan(grid).all(-1))
    grid = np.where(np.expand_dims(out, -1), np.nan, grid)
    if how == "normalise_then_sum":
        grid = _normalised(grid, axis=1, epsilon=epsilon)
    total = np.where(out, np.nan, np.where(np.isnan(grid), 0.0, grid) @ factors)
    if how == "sum":
        return total
    return _normalised(total, axis=1 if how == "sum_then_normalise" else None, epsilon=epsilon)


def _judge(part: Part, completion: Completion, context: RewardContext, now: Mapping[str, Any]) -> Score | None:
    if part.given and part.name in context.given:
        return context.given[part.name]
    plain = {name: parse_schedule(given) for name, given in part.options.items() if name not in now}
    chosen = {name: value_at(given, context.progress) for name, given in plain.items()}

    def ask(text: Completion) -> Score | None:
        given = part.reward(text, context, **chosen, **now)
        try:
            return scored(given)
        except ValueError as error:
            raise ValueError(f"{part.name}: {error}") from error

    score = ask(completion)
    return score if score is None or part.at == "end" else _by_sentence(score, completion.text, ask)


def _by_sentence(score: Score, text: str, ask: Callable[[Completion], Score | None]) -> Score:
    """The same score, earned at the ends of sentences: each gets what it added to the reward of the text before."""
    placed, before = [], 0.0
    for end in sentence_ends(text)[:-1]:
        so_far = ask(Completion(text=text[:end]))
        if so_far is not None:
            placed.append((end, so_far.value - before))
            before = so_far.value
    return replace(score, placed=tuple(placed))


def _logged(part: Part, score: Score) -> dict[str, float]:
    value = score.value if part.clip is None else min(max(score.value, part.clip[0]), part.clip[1])
    gate = {} if part.gate is None else {f"{part.name}/gate": float(score.value >= part.gate)}
    return {part.name: value, **{f"{part.name}/{name}": x for name, x in score.parts.items()}, **gate}


def _normalised(values: NDArray[np.float64], *, axis: int | None, epsilon: float) -> NDArray[np.float64]:
    """Less the mean, over the standard deviation plus epsilon, along an axis (None: all); NaN stays NaN."""
    here = ~np.isnan(values)
    number = here.sum(axis=axis, keepdims=True)
    mean = np.where(here, values, 0.0).sum(axis=axis, keepdims=True) / np.maximum(number, 1)
    deviation = np.where(here, values - mean, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=axis, keepdims=True) / np.maximum(number - 1, 1))
    lowest = np.where(here, values, np.inf).min(axis=axis, keepdims=True, initial=np.inf)
    highest = np.where(here, values, -np.inf).max(axis=axis, keepdims=True, initial=-np.inf)
    varies = highest > lowest
    scaled = np.where(varies, deviation, 0.0) / np.where(varies, spread + epsilon, 1.0)
    return np.where(here, scaled, np.nan)
