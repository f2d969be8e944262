"""Watching a run: how long a signal has been beyond its bound, and the alarm when that lasts.

What a reward or a loss shows is a proxy, and runs fail in known ways: a reward that is gamed, pairs learned by heart,
chosen answers that become unlikely, one answer for everything, circling answers, sprayed boxes, a policy far from its
start, a jump of the gradient. The rules are in rules.py. Does not stop anything itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sightline.train.rules import RULES

MOST_LOSSES = 1000
"""Training losses that are remembered between two evaluations."""
CURES = {rule.signal: rule.cure for rule in RULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where each signal becomes an alarm; None switches it off."""

    patience: int = 8
    """Updates (or rollouts) in a row, for rules without a patience of their own."""
    held_out_fall: float | None = 0.05
    """Most below its best while what is trained is at its height."""
    overfit: float | None = 0.05
    """Most that the validation loss may rise above its best, as a share of it."""
    accuracy_gap: float | None = 0.35
    """Most between the accuracy on pairs that were trained on and on others."""
    displacement: float | None = 0.3
    """Most nats per token that chosen answers may lose."""
    problems: float | None = 0.5
    """Most answers on which a reward failed."""
    without_signal: float | None = 0.95
    """Most groups without signal."""
    distinct: float | None = 0.15
    """Least share of different answers."""
    repetition: float | None = 0.5
    """Most repetition."""
    length_growth: float | None = 2.5
    """Most growth of the mean length."""
    boxes_per_object: float | None = 2.0
    """Most boxes per true box."""
    kl: float | None = 1.0
    """Most KL per token from where the policy began."""
    grad_norm_spike: float | None = 50.0
    """Most times the running median."""
    reward_collapse: float | None = 4.0
    """Most spreads below the best stretch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A signal that stayed beyond its bound."""

    signal: str
    """Its name."""
    since: int
    """Update at which it began."""
    sentence: str
    """What it is and what to do."""
    from_best: bool = False
    """Whether the best checkpoint is the one to go back to, or else the last from before."""


def watched(bounds: Bounds) -> list[dict[str, Any]]:
    """What is looked at, for the run folder: signal, metric, and its bound where that is a level of the metric.

    "above" and "below" are levels, "above_first" is a multiple of the mean of the first rollouts; a signal with "rule"
    has a bound that moves with the run.
    """
    found: list[dict[str, Any]] = []
    for rule in RULES:
        bound = asdict(bounds)[rule.signal]
        if bound is None:
            continue
        level = -bound if rule.signal == "displacement" else bound
        said = rule.words.format(bound) if rule.kind == "rule" else level
        beside = {} if rule.beside is None else {"beside": rule.beside}
        found.append({"signal": rule.signal, "metric": rule.metric, rule.kind: said, **beside})
    return found


@dataclass(slots=True)
class Watch:
    """Looks at the metrics of every update. State: how long each signal has been beyond its bound, and its past."""

    bounds: Bounds
    """Where signals become alarms."""
    updates_per_epoch: float = 0.0
    """Updates that read the data once; 0 where none does."""
    rows_per_update: float = 0.0
    """Rows of an update."""
    validation_rows: float = 0.0
    """Rows of the validation files."""
    since: dict[str, int] = field(default_factory=dict)
    """Update since which a signal is beyond its bound."""
    times: dict[str, int] = field(default_factory=dict)
    """Looks in a row beyond the bound."""
    past: dict[str, list[float]] = field(default_factory=dict)
    """What rules remember."""

    def look(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Alarms that this update raises; step 0 is the evaluation before the first one."""
        found: list[Alarm] = []
        bounds, known = asdict(self.bounds), {**metrics, **self._sizes(step)}
        if "loss/total" in metrics:
            self.past["loss_since"] = [*self.past.get("loss_since", []), metrics["loss/total"]][-MOST_LOSSES:]
        for rule in RULES:
            bound = bounds[rule.signal]
            said = None if bound is None else rule.look(bound, known, self.past)
            if said is None:
                continue
            if not said:
                self.times.pop(rule.signal, None)
                self.since.pop(rule.signal, None)
                continue
            since = self.since.setdefault(rule.signal, step)
            self.times[rule.signal] = self.times.get(rule.signal, 0) + 1
            if self.times[rule.signal] >= (rule.patience or self.bounds.patience):
                sentence = f"{rule.signal}: {said}, since update {since}; {rule.cure}"
                found.append(Alarm(signal=rule.signal, since=since, sentence=sentence, from_best=rule.from_best))
        if "validation/loss/total" in metrics or "validation/held_out" in metrics:
            self.past["loss_since"] = []
        return found

    def before(self, steps: Iterable[int]) -> int | None:
        """Of these steps, the last from before anything that is beyond its bound now; None where all is well."""
        first = min(self.since.values(), default=None)
        return None if first is None else max((step for step in steps if step < first), default=None)

    def state(self) -> dict[str, Any]:
        """All of it, as plain JSON."""
        return {"since": self.since, "times": self.times, "past": self.past}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.since, self.times = dict(state["since"]), dict(state["times"])
        self.past = {name: list(values) for name, values in state["past"].items()}

    def _sizes(self, step: int) -> dict[str, float]:
        epoch = step / self.updates_per_epoch if self.updates_per_epoch else 0.0
        return {"data/epoch": epoch, "data/rows": self.rows_per_update, "data/validation_rows": self.validation_rows}
