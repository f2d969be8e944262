"""Watching a run that learns from rewards: which numbers say that it goes wrong, and since when.

A reward is a proxy. Runs fail in known ways: nothing left to learn from, one answer for everything, circling answers,
sprayed boxes, a policy far from its reference, a jump of the gradient, a reward that falls, and, worst, a reward that
rises while a held-out measure falls. Owns these rules and the memory that they need. Does not stop anything itself.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

START = 5
"""Rollouts that say what a normal length is."""
STRETCH = 10
"""Rollouts in a stretch of rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where each signal becomes an alarm; None switches it off."""

    patience: int = 8
    """Rollouts in a row."""
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
    kl: float | None = None
    """Most KL per token."""
    grad_norm_spike: float | None = 50.0
    """Most times the running median."""
    reward_collapse: float | None = 4.0
    """Most spreads below the best stretch."""
    held_out_fall: float | None = 0.05
    """Most below its best while the reward is at its height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A signal that stayed beyond its bound."""

    signal: str
    """Its name."""
    since: int
    """Update at which it began."""
    sentence: str
    """What it is and what to do."""


def watched(bounds: Bounds) -> list[dict[str, Any]]:
    """What is looked at, for the run folder: signal, metric, and its bound where that is a level of the metric.

    "above" and "below" are levels, "above_first" is a multiple of the mean of the first rollouts; a signal with "rule"
    has a bound that moves with the run.
    """
    spikes = f"above {bounds.grad_norm_spike:g} times its running median" if bounds.grad_norm_spike else ""
    falls = f"{bounds.reward_collapse:g} spreads below its best stretch" if bounds.reward_collapse else ""
    gap = f"{bounds.held_out_fall:g} below its best while the reward is at its height" if bounds.held_out_fall else ""
    rows: list[tuple[str, str, str, float | str | None]] = [
        ("held_out_fall", "validation/held_out", "rule", gap or None),
        ("problems", "rollout/problems", "above", bounds.problems),
        ("without_signal", "rollout/without_signal", "above", bounds.without_signal),
        ("distinct", "rollout/distinct", "below", bounds.distinct),
        ("repetition", "rollout/repetition", "above", bounds.repetition),
        ("length_growth", "rollout/length", "above_first", bounds.length_growth),
        ("boxes_per_object", "rollout/boxes_per_object", "above", bounds.boxes_per_object),
        ("kl", "kl/reference", "above", bounds.kl),
        ("grad_norm_spike", "optim/grad_norm", "rule", spikes or None),
        ("reward_collapse", "reward/mean", "rule", falls or None),
    ]
    found: list[dict[str, Any]] = [
        {"signal": signal, "metric": metric, kind: bound} for signal, metric, kind, bound in rows if bound is not None
    ]
    for row in found:
        if row["signal"] == "held_out_fall":
            row["beside"] = "validation/reward/mean"
    return found


CURES = {
    "problems": "a reward fails on many answers: reward-failures/ of the run folder has them with the reason; mend it",
    "without_signal": "nearly all groups have answers of one worth: look at the reward, choose prompts of middling "
    "difficulty, raise the temperature, or sample anew with rollout.max_refills",
    "distinct": "the answers of a group are nearly all the same: lower the learning rate, add objective.kl_weight or "
    "entropy_weight, or raise the temperature",
    "repetition": "answers circle: probe the reward for padding, or add the reward repetition",
    "length_growth": "answers grow without need: probe the reward for length, or add the reward length",
    "boxes_per_object": "boxes are sprayed: the reward does not charge for surplus boxes; probe it",
    "kl": "the policy has left its reference: raise objective.kl_weight or lower the learning rate",
    "grad_norm_spike": "one update jumped: look at its answers, lower the learning rate or optim.max_grad_norm",
    "reward_collapse": "the reward has fallen far below what it was: lower the learning rate, and go on from an "
    "earlier checkpoint",
    "held_out_fall": "the reward is at its height while the held-out measure falls: the reward is being gamed; probe "
    "it, and keep the checkpoint from before",
}


@dataclass(slots=True)
class Watch:
    """Looks at the metrics of every update. State: how long each signal has been beyond its bound, and its past."""

    bounds: Bounds
    """Where signals become alarms."""
    since: dict[str, int] = field(default_factory=dict)
    """Update since which a signal is beyond its bound."""
    times: dict[str, int] = field(default_factory=dict)
    """Rollouts in a row beyond the bound."""
    past: dict[str, list[float]] = field(default_factory=dict)
    """What was seen of rewards, lengths, gradient norms and the held-out measure."""

    def look(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Alarms that this update raises."""
        found: list[Alarm] = []
        for name, beyond in self._judged(metrics).items():
            if beyond is None:
                self.times.pop(name, None)
                self.since.pop(name, None)
                continue
            self.since.setdefault(name, step)
            self.times[name] = self.times.get(name, 0) + 1
            if self.times[name] >= self._patience(name):
                sentence = f"{name}: {beyond}, since update {self.since[name]}; {CURES[name]}"
                found.append(Alarm(signal=name, since=self.since[name], sentence=sentence))
        return found

    def state(self) -> dict[str, Any]:
        """All of it, as plain JSON."""
        return {"since": self.since, "times": self.times, "past": self.past}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.since, self.times = dict(state["since"]), dict(state["times"])
        self.past = {name: list(values) for name, values in state["past"].items()}

    def _patience(self, name: str) -> int:
        if name in ("grad_norm_spike", "held_out_fall"):
            return 1 if name == "grad_norm_spike" else 2
        return self.bounds.patience

    def _judged(self, metrics: Mapping[str, float]) -> dict[str, str | None]:
        """For every signal that this update says something about: None, or what is wrong."""
        bounds, found = self.bounds, dict[str, str | None]()
        above = {
            "problems": ("rollout/problems", bounds.problems),
            "without_signal": ("rollout/without_signal", bounds.without_signal),
            "repetition": ("rollout/repetition", bounds.repetition),
            "boxes_per_object": ("rollout/boxes_per_object", bounds.boxes_per_object),
            "kl": ("kl/reference", bounds.kl),
        }
        for name, (metric, bound) in above.items():
            if metric in metrics and bound is not None:
                beyond = metrics[metric] > bound
                found[name] = f"{metric} is {metrics[metric]:.3g}, above {bound:g}" if beyond else None
        if "rollout/distinct" in metrics and bounds.distinct is not None:
            value = metrics["rollout/distinct"]
            low = value < bounds.distinct
            found["distinct"] = f"rollout/distinct is {value:.3g}, below {bounds.distinct:g}" if low else None
        found |= self._length(metrics) | self._spike(metrics) | self._collapse(metrics) | self._held_out(metrics)
        return found

    def _length(self, metrics: Mapping[str, float]) -> dict[str, str | None]:
        bound, value = self.bounds.length_growth, metrics.get("rollout/length")
        if bound is None or value is None:
            return {}
        first = self.past.setdefault("length", [])
        if len(first) < START:
            first.append(value)
            return {}
        normal = max(1.0, statistics.fmean(first))
        return {
            "length_growth": f"answers have {value:.0f} tokens and had {normal:.0f}" if value > bound * normal else None
        }

    def _spike(self, metrics: Mapping[str, float]) -> dict[str, str | None]:
        bound, value = self.bounds.grad_norm_spike, metrics.get("optim/grad_norm")
        if bound is None or value is None:
            return {}
        past = self.past.setdefault("grad_norm", [])
        normal = statistics.median(past) if len(past) >= START else None
        self.past["grad_norm"] = [*past, value][-50:]
        if not normal:
            return {}
        return {
            "grad_norm_spike": f"the gradient's norm is {value:.3g} and was {normal:.3g}"
            if value > bound * normal
            else None
        }

    def _collapse(self, metrics: Mapping[str, float]) -> dict[str, str | None]:
        bound, value = self.bounds.reward_collapse, metrics.get("reward/mean")
        if bound is None or value is None:
            return {}
        rule = [number for name, number in sorted(metrics.items()) if name.startswith("curriculum/")]
        if rule != self.past.get("rule", rule):  # another rule, other rewards: what was reached before says nothing
            self.past["reward"] = []
        self.past["rule"] = rule
        past = self.past["reward"] = [*self.past.get("reward", []), value]
        if len(past) < 2 * STRETCH:
            return {}
        now = statistics.fmean(past[-STRETCH:])
        stretches = [past[start : start + STRETCH] for start in range(len(past) - STRETCH + 1)]
        best = max(stretches, key=statistics.fmean)
        floor = statistics.fmean(best) - bound * max(statistics.stdev(best), 1e-6)
        return {
            "reward_collapse": f"the mean reward is {now:.3g} and was {statistics.fmean(best):.3g}"
            if now < floor
            else None
        }

    def _held_out(self, metrics: Mapping[str, float]) -> dict[str, str | None]:
        bound, value = self.bounds.held_out_fall, metrics.get("validation/held_out")
        reward = metrics.get("validation/reward/mean")
        if bound is None or value is None or reward is None:
            return {}
        held, rewards = self.past.setdefault("held_out", []), self.past.setdefault("held_reward", [])
        held.append(value)
        rewards.append(reward)
        best = max(range(len(held)), key=held.__getitem__)
        hacked = value < held[best] - bound and reward > rewards[best]
        said = f"the held-out measure fell from {held[best]:.3g} to {value:.3g} while the reward rose to {reward:.3g}"
        return {"held_out_fall": said if hacked else None}
