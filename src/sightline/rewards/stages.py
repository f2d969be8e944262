"""The stages of a run at which a reward behaves differently: every step of its schedules, and of its own rule.

A reward whose rule tightens is another reward at the end of a run than at its beginning, so probes attack it at every
stage. Knows no case and judges nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from sightline.rewards.curriculum import Ladder, Ramp, Steps, parse_schedule, value_at

COURSE = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the run at which a reward is tried that may read the progress itself."""
ON_A_RAMP = 5
"""A ramp is tried at so many places, its ends included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a run. Example: `Stage(progress=0.5, options={"phase": "late"})`."""

    progress: float
    """Share of the run that is done."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values of the scheduled options at this stage."""

    @property
    def name(self) -> str:
        """The progress, and where options are scheduled, their values."""
        values = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"{self.progress:g}{values}"


def stages_of(reward: str, options: Mapping[str, Any], *, beside: str | None = None) -> list[Stage]:
    """All stages that differ for a reward with these options, and one beside it, in the order of a run; at least one.

    A built-in reward changes by its schedules alone, vision_r1 by its `step` too; one of your own may read the
    progress, and is tried over the whole course. Schedules that follow a skill are tried at every level.
    """
    parsed = {name: parse_schedule(given, name) for name, given in options.items()}
    schedules = {name: given for name, given in parsed.items() if isinstance(given, Steps | Ramp | Ladder)}
    if ":" in f"{reward} {beside}":
        return [*_at(schedules, _places(schedules.values(), COURSE))]
    own = _own_steps(parsed) if reward == "vision_r1" else _own_steps({}) if beside == "vision_r1" else ()
    found: dict[str, Stage] = {}
    for stage in _at(schedules, _places(schedules.values(), own)):
        rule = sum(place <= stage.progress for place in own)
        found.setdefault(f"{rule} {dict(stage.options)}", stage)
    return list(found.values())


def _own_steps(options: Mapping[str, Any]) -> tuple[float, ...]:
    """Where vision_r1 changes its phase by itself."""
    step = options.get("step", 0.5)
    if options.get("phase") is not None or options.get("mode") == "released":
        return ()
    if not isinstance(step, int | float):
        return COURSE[1:]
    return (float(step),) if 0 < step < 1 else ()


def _places(schedules: Any, more: Sequence[float]) -> list[float]:
    """Shares of the run at which something may be different."""
    places = {0.0, *more}
    for given in schedules:
        if isinstance(given, Steps):
            places |= set(given.starts)
        elif isinstance(given, Ramp):
            parts = (i / (ON_A_RAMP - 1) for i in range(ON_A_RAMP))
            places |= {given.start + part * (given.end - given.start) for part in parts}
    return sorted(places)


def _at(schedules: Mapping[str, Any], places: Sequence[float]) -> Iterator[Stage]:
    ladders = {name: given for name, given in schedules.items() if isinstance(given, Ladder)}
    for place in places:
        for levels in product(*(range(len(given.levels)) for given in ladders.values())):
            level = dict(zip(ladders, levels, strict=True))
            now = {name: value_at(given, place, level=level.get(name, 0)) for name, given in schedules.items()}
            yield Stage(progress=place, options=now)
