"""Progressive rule refinement as a general thing: any option of any reward can be a schedule.

A schedule is plain data in the place of an option's value: steps at shares of the run, a straight ramp, or levels that
a measured skill climbs and falls. Vision-R1's two stages (Zhan et al. 2025, section 3.3) are one case of it, and so is
its differentiation. Knows no reward: a value that is no schedule is handed through untouched.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeGuard

from sightline.registry import did_you_mean

FORMS = {"steps": ("steps",), "ramp": ("ramp", "between"), "skill": ("skill", "levels", "up", "down", "window")}
EXAMPLES = {
    "steps": "{steps: [[0.0, 0.5], [0.5, 0.75]]}",
    "ramp": "{ramp: [0.5, 0.75], between: [0.2, 0.8]}",
    "skill": "{skill: recall, levels: [0.5, 0.75], up: 0.8, down: 0.6, window: 16}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """One value after another. Example: `Steps(starts=(0.0, 0.5), values=(0.5, 0.75))`."""

    starts: tuple[float, ...]
    """Share of the run from which each value holds; the first is 0."""
    values: tuple[Any, ...]
    """The values, of any kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """A straight line from one number to another, level before and after. Example: 0.5 to 0.75 from 0.2 to 0.8."""

    first: float
    """Value up to `start`."""
    last: float
    """Value from `end` on."""
    start: float = 0.0
    """Share of the run at which it begins to move."""
    end: float = 1.0
    """Share of the run at which it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Levels that a measured skill climbs, and falls from only when it is clearly worse (hysteresis)."""

    skill: str
    """The measure: a part of the same reward ("recall"), or any by its full name ("boxes/recall")."""
    levels: tuple[Any, ...]
    """The values, easiest first, of any kind."""
    up: float
    """One level up when the mean of the window is at least this."""
    down: float | None = None
    """One level down when the mean of the window is below this; None: never."""
    window: int = 16
    """Number of observations (one per group of answers) in the mean; it starts anew on every level."""


Schedule = Steps | Ramp | Ladder


def differentiate(x: float, low: float, high: float) -> float:
    """Full marks at or above `high`, none below `low`, `x` itself between (Vision-R1, eq. 8, closed thresholds)."""
    if low > high:
        raise ValueError(f"low is {low} and high is {high}; low must not be above high")
    if x >= high:
        return 1.0
    return float(x) if x >= low else 0.0


def parse_schedule(plain: Any, where: str = "option") -> Any:
    """The schedule that plain data describes, or the data itself when it is an ordinary value.

    A mapping with one of the keys steps, ramp and skill is a schedule. ValueError says at `where` what is wrong.
    """
    if not isinstance(plain, Mapping):
        return plain
    form = next((form for form in FORMS if form in plain), None)
    if form is None:
        _refuse_half_a_schedule(plain, where)
        return plain
    for key in plain:
        if key not in FORMS[form]:
            cure = did_you_mean(str(key), FORMS[form])
            raise ValueError(f"{where}: a schedule by {form} has no {key!r}{cure}; write {EXAMPLES[form]}")
    return {"steps": _steps, "ramp": _ramp, "skill": _ladder}[form](plain, where)


def value_at(given: Any, progress: float, *, level: int = 0) -> Any:
    """The value of a schedule (or of an ordinary value) at this share of the run; `level` is a ladder's."""
    assert 0 <= progress <= 1, f"progress {progress} is no share of the run"
    match given:
        case Steps(starts=starts, values=values):
            return values[sum(start <= progress for start in starts) - 1]
        case Ramp():
            done = min(max((progress - given.start) / (given.end - given.start), 0.0), 1.0)
            return given.first * (1 - done) + given.last * done
        case Ladder(levels=levels):
            return levels[level]
    return given


@dataclass(slots=True)
class _Climb:
    """Where a ladder stands."""

    level: int = 0
    seen: list[float] = field(default_factory=list)
    num_observed: int = 0

    def observe(self, ladder: Ladder, value: float) -> None:
        """Keep the value; move one level when the window is full and its mean says so."""
        self.seen = [*self.seen, value][-ladder.window :]
        self.num_observed += 1
        if len(self.seen) < ladder.window:
            return
        mean = math.fsum(self.seen) / len(self.seen)
        rises = mean >= ladder.up and self.level + 1 < len(ladder.levels)
        falls = ladder.down is not None and mean < ladder.down and self.level > 0
        if rises or falls:
            self.level += 1 if rises else -1
            self.seen = []


class Curriculum:
    """The options of several rewards, some of them schedules, and where the skill-driven ones stand.

    Example: `Curriculum({"boxes": {"mode": "paper", "phase": {"steps": [[0.0, "early"], [0.5, "late"]]}}})`, then
    `values(0.7)` is `{"boxes": {"mode": "paper", "phase": "late"}}`.
    """

    def __init__(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        """Options by reward and name, plain data or schedules; ValueError names the option that is wrong."""
        self._options = {
            reward: {name: parse_schedule(given, f"{reward}.{name}") for name, given in named.items()}
            for reward, named in options.items()
        }
        self._climbs = {key: _Climb() for key in self._ladders()}

    def values(self, progress: float) -> dict[str, dict[str, Any]]:
        """Every option's value at this share of the run, by reward and name."""
        return {
            reward: {name: self._value(reward, name, progress) for name in named}
            for reward, named in self._options.items()
        }

    def moving(self, progress: float) -> dict[str, Any]:
        """The values of the scheduled options alone, as "reward/option", for the log."""
        return {
            f"{reward}/{name}": self._value(reward, name, progress)
            for reward, named in self._options.items()
            for name, given in named.items()
            if isinstance(given, Schedule)
        }

    def numbers(self, progress: float) -> dict[str, float]:
        """The same as numbers: values that are none by their place among the schedule's values."""
        return {key: self._place(key, value) for key, value in self.moving(progress).items()}

    def _place(self, key: str, value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        reward, name = key.split("/", 1)
        given = self._options[reward][name]
        values = given.values if isinstance(given, Steps) else given.levels
        return float(list(values).index(value))

    def observe(self, measures: Mapping[str, float]) -> None:
        """One group's measures ("reward", "reward/part"); what is missing says nothing.

        A ladder in the options of reward R reads "R/skill" when it is there, else "skill".
        """
        for (reward, name), ladder in self._ladders().items():
            value = measures.get(f"{reward}/{ladder.skill}", measures.get(ladder.skill))
            if value is None:
                continue
            if not math.isfinite(value):
                raise ValueError(f"{reward}.{name}: {ladder.skill} was measured as {value}; leave it out instead")
            self._climbs[reward, name].observe(ladder, float(value))

    def unmeasured(self) -> tuple[str, ...]:
        """Skills that no observation has named yet: after the first groups, a misspelt one."""
        ladders = self._ladders()
        return tuple(ladders[key].skill for key, climb in self._climbs.items() if climb.num_observed == 0)

    def state(self) -> dict[str, Any]:
        """Plain JSON for the checkpoint: level, window and number of observations of every ladder."""
        kept: dict[str, Any] = {}
        for (reward, name), climb in self._climbs.items():
            row = {"level": climb.level, "seen": list(climb.seen), "num_observed": climb.num_observed}
            kept.setdefault(reward, {})[name] = row
        return kept

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state; ValueError when it belongs to other schedules."""
        kept = {(reward, name): row for reward, rows in state.items() for name, row in rows.items()}
        ladders = self._ladders()
        if set(kept) != set(ladders):
            stated, known = (_listed(keys) for keys in (kept, ladders))
            problem = f"the checkpoint's curriculum has skill-driven {stated}, this run {known}"
            raise ValueError(f"{problem}; resume with the recipe that wrote it, or begin anew")
        for (reward, name), row in kept.items():
            ladder = ladders[reward, name]
            if row["level"] >= len(ladder.levels) or len(row["seen"]) > ladder.window:
                problem = f"{reward}.{name}: the checkpoint's ladder had other levels or another window"
                raise ValueError(f"{problem}; resume with the recipe that wrote it, or begin anew")
        for key, row in kept.items():
            self._climbs[key] = _Climb(
                level=row["level"], seen=[float(x) for x in row["seen"]], num_observed=row["num_observed"]
            )

    def _ladders(self) -> dict[tuple[str, str], Ladder]:
        options = self._options.items()
        return {(r, name): given for r, named in options for name, given in named.items() if isinstance(given, Ladder)}

    def _value(self, reward: str, name: str, progress: float) -> Any:
        climb = self._climbs.get((reward, name))
        return value_at(self._options[reward][name], progress, level=climb.level if climb else 0)


def _steps(plain: Mapping[str, Any], where: str) -> Steps:
    pairs = plain["steps"]
    good = _is_list(pairs) and len(pairs) > 0 and all(_is_list(pair) and len(pair) == 2 for pair in pairs)
    if not good:
        raise ValueError(f"{where}: steps is {pairs!r}; write pairs of start and value, as {EXAMPLES['steps']}")
    starts = tuple(_share(pair[0], f"{where}: a step's start") for pair in pairs)
    if starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
        cure = "begin at 0.0 and let every start be above the one before"
        raise ValueError(f"{where}: the steps start at {', '.join(map(str, starts))}; {cure}")
    return Steps(starts=starts, values=tuple(pair[1] for pair in pairs))


def _ramp(plain: Mapping[str, Any], where: str) -> Ramp:
    first, last = _two(plain["ramp"], f"{where}: ramp", "the first and the last value")
    between = plain.get("between", (0.0, 1.0))
    start, end = _two(between, f"{where}: between", "the shares of the run at which it begins and ends")
    start, end = _share(start, f"{where}: between"), _share(end, f"{where}: between")
    if start >= end:
        raise ValueError(f"{where}: between is {between!r}; let the ramp end after it begins, or use steps")
    return Ramp(first=first, last=last, start=start, end=end)


def _ladder(plain: Mapping[str, Any], where: str) -> Ladder:
    skill, levels, window, down = plain["skill"], plain.get("levels"), plain.get("window", 16), plain.get("down")
    if not isinstance(skill, str) or not skill:
        raise ValueError(f"{where}: skill is {skill!r}; name a measure, as {EXAMPLES['skill']}")
    if not _is_list(levels) or len(levels) < 2:
        raise ValueError(f"{where}: levels is {levels!r}; list two values or more, easiest first")
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise ValueError(f"{where}: window is {window!r}; write a number of groups, 1 or more")
    if "up" not in plain:
        raise ValueError(f"{where}: up is missing; say what mean of {skill} lifts the level, as {EXAMPLES['skill']}")
    up = _number(plain["up"], f"{where}: up")
    down = None if down is None else _number(down, f"{where}: down")
    if down is not None and down >= up:
        raise ValueError(f"{where}: down is {down} and up is {up}; leave a gap below up, or the level flutters")
    return Ladder(skill=skill, levels=tuple(levels), up=up, down=down, window=window)


def _refuse_half_a_schedule(plain: Mapping[str, Any], where: str) -> None:
    """A mapping that is nearly a schedule was meant as one; any other is an ordinary value."""
    parts = {key: form for form, keys in FORMS.items() for key in keys if key != form}
    if plain and all(key in parts for key in plain):
        form = parts[next(iter(plain))]
        raise ValueError(f"{where}: {', '.join(plain)} without {form} is no schedule; write {EXAMPLES[form]}")
    for key, form in (("step", "steps"), ("ramps", "ramp"), ("skills", "skill")):
        if key in plain:
            raise ValueError(f"{where}: a schedule has no {key!r}; did you mean {form}? Write {EXAMPLES[form]}")


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{where} is {value!r}; write a finite number")
    return float(value)


def _share(value: Any, where: str) -> float:
    if not 0 <= (share := _number(value, where)) <= 1:
        raise ValueError(f"{where} is {value!r}; write a share of the run, 0 to 1")
    return share


def _two(value: Any, where: str, what: str) -> tuple[float, float]:
    if not _is_list(value) or len(value) != 2:
        raise ValueError(f"{where} is {value!r}; write {what}, as {EXAMPLES['ramp']}")
    return _number(value[0], where), _number(value[1], where)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _listed(keys: Iterable[tuple[str, str]]) -> str:
    return ", ".join(sorted(f"{reward}.{name}" for reward, name in keys)) or "no options"
