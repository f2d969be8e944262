"""The rules of the monitors: for each known failure, what is looked at, when it is beyond its bound, and what to do.

A rule looks at the metrics of one update, with what it remembers of earlier ones, and says nothing (None: this update
tells it nothing), "" (all is well), or what is wrong. How long that must last, and what then happens, is not decided
here (monitors.py).
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Metrics = Mapping[str, float]
Past = dict[str, list[float]]
"""What rules remember, by name; plain JSON."""
Look = Callable[[float, Metrics, Past], str | None]

START = 5
"""Values that say what is normal."""
STRETCH = 10
"""Rollouts in a stretch of rewards; updates in a stretch of training accuracy."""
NO_PROXY = -1e30
"""Stands before the first update for a training loss that is not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One signal. Example: `Rule(signal="kl", metric="kl/start", kind="above", cure="...", look=above("kl/start"))`."""

    signal: str
    """Its name, and that of its bound."""
    metric: str
    """What it looks at, for the report."""
    kind: Literal["above", "below", "above_first", "rule"]
    """Whether the bound is a level of the metric, a multiple of its first values, or moves with the run."""
    cure: str
    """What to do."""
    look: Look
    """None, "" or what is wrong, given the bound."""
    patience: int | None = None
    """Times in a row beyond the bound; None: as the monitors are set."""
    words: str = ""
    """The bound in words, of kind "rule"."""
    beside: str | None = None
    """What the report draws beside it."""
    from_best: bool = False
    """Whether the checkpoint that is best by the held-out measure is the one to go back to."""


def above(metric: str) -> Look:
    """Beyond where the metric is above the bound."""

    def look(bound: float, metrics: Metrics, past: Past) -> str | None:
        value = metrics.get(metric)
        if value is None:
            return None
        return f"{metric} is {value:.3g}, above {bound:g}" if value > bound else ""

    return look


def below(metric: str, sign: float = 1.0) -> Look:
    """Beyond where the metric is below `sign` times the bound."""

    def look(bound: float, metrics: Metrics, past: Past) -> str | None:
        value = metrics.get(metric)
        if value is None:
            return None
        return f"{metric} is {value:.3g}, below {sign * bound:g}" if value < sign * bound else ""

    return look


def length_grows(bound: float, metrics: Metrics, past: Past) -> str | None:
    """Answers are many times as long as in the first rollouts."""
    value = metrics.get("rollout/length")
    if value is None:
        return None
    first = past.setdefault("length", [])
    if len(first) < START:
        first.append(value)
        return None
    normal = max(1.0, statistics.fmean(first))
    return f"answers have {value:.0f} tokens and had {normal:.0f}" if value > bound * normal else ""


def gradient_jumps(bound: float, metrics: Metrics, past: Past) -> str | None:
    """The gradient's norm is far above its running median."""
    value = metrics.get("optim/grad_norm")
    if value is None:
        return None
    before = past.setdefault("grad_norm", [])
    normal = statistics.median(before) if len(before) >= START else None
    past["grad_norm"] = [*before, value][-50:]
    if not normal:
        return None
    return f"the gradient's norm is {value:.3g} and was {normal:.3g}" if value > bound * normal else ""


def reward_collapses(bound: float, metrics: Metrics, past: Past) -> str | None:
    """The mean reward of the last stretch is far below that of the best one."""
    value = metrics.get("reward/mean")
    if value is None:
        return None
    rule = [number for name, number in sorted(metrics.items()) if name.startswith("curriculum/")]
    if rule != past.get("rule", rule):  # another rule, other rewards: what was reached before says nothing
        past["reward"] = []
    past["rule"] = rule
    seen = past["reward"] = [*past.get("reward", []), value]
    if len(seen) < 2 * STRETCH:
        return None
    now = statistics.fmean(seen[-STRETCH:])
    stretches = [seen[start : start + STRETCH] for start in range(len(seen) - STRETCH + 1)]
    best = max(stretches, key=statistics.fmean)
    floor = statistics.fmean(best) - bound * max(statistics.stdev(best), 1e-6)
    return f"the mean reward is {now:.3g} and was {statistics.fmean(best):.3g}" if now < floor else ""


def held_out_falls(bound: float, metrics: Metrics, past: Past) -> str | None:
    """The held-out measure is below its best, by more than chance, while what is trained is at its height.

    What is trained is the reward of the same answers, and without rewards the training loss since the last evaluation.
    """
    if "validation/held_out" not in metrics:
        return None
    value, chance = metrics["validation/held_out"], 2 * metrics.get("validation/held_out_error", 0.0)
    losses = past.get("loss_since", [])
    trained = metrics.get("validation/reward/mean", -statistics.fmean(losses) if losses else NO_PROXY)
    held, proxy = past.setdefault("held_out", []), past.setdefault("proxy", [])
    held.append(value)
    proxy.append(trained)
    best = max(range(len(held)), key=held.__getitem__)
    if value >= held[best] - max(bound, chance) or trained <= proxy[best]:
        return ""
    what = "the reward rose" if "validation/reward/mean" in metrics else "the training loss went on falling"
    return f"the held-out measure fell from {held[best]:.3g} to {value:.3g} while {what}"


def overfits(bound: float, metrics: Metrics, past: Past) -> str | None:
    """The validation loss is above its best while the training loss went on falling."""
    value, losses = metrics.get("validation/loss/total"), past.get("loss_since", [])
    if value is None or "validation/reward/mean" in metrics or not losses:
        return None
    training = statistics.fmean(losses)
    held, trained = past.setdefault("validation_loss", []), past.setdefault("training_loss", [])
    held.append(value)
    trained.append(training)
    best = min(range(len(held)), key=held.__getitem__)
    if value <= held[best] + bound * abs(held[best]) or training >= trained[best]:
        return ""
    return (
        f"the validation loss rose from {held[best]:.3g} to {value:.3g} while the training loss fell from "
        f"{trained[best]:.3g} to {training:.3g}"
    )


def learns_by_heart(bound: float, metrics: Metrics, past: Past) -> str | None:
    """Pairs that were trained on are ranked right far more often than pairs that were not.

    Those are the validation pairs or, without them, the pairs of the first epoch's second half, each when it was first
    seen. A gap must exceed what so few pairs show by chance.
    """
    trained = [accuracy for accuracy in (_accuracy(metrics, ""),) if accuracy is not None]
    seen = past["seen"] = [*past.get("seen", []), *trained][-STRETCH:]
    if metrics.get("data/validation_rows"):
        fresh, num = _accuracy(metrics, "validation/"), metrics["data/validation_rows"]
    else:
        fresh, num = _when_first_seen(metrics, past, trained)
    if fresh is None or num < 1 or len(seen) < STRETCH:
        return None
    now = statistics.fmean(seen)
    if now - fresh <= bound + num**-0.5:
        return ""
    return f"of pairs that were trained on {now:.0%} are ranked right, of new ones {fresh:.0%}"


def _when_first_seen(metrics: Metrics, past: Past, trained: list[float]) -> tuple[float | None, float]:
    """How often pairs were ranked right when they were first seen, and how many those were; None in the first epoch."""
    epoch, first = metrics.get("data/epoch", 0.0), past.setdefault("fresh", [])
    if epoch > 1:
        return (statistics.fmean(first), len(first) * metrics["data/rows"]) if first else (None, 0.0)
    if epoch > 0.5:
        first += trained
    return None, 0.0


def _accuracy(metrics: Metrics, where: str) -> float | None:
    return next(
        (metrics[name] for name in (f"{where}reward/accuracy", f"{where}rating/accuracy") if name in metrics), None
    )


RULES: tuple[Rule, ...] = (
    Rule(
        signal="held_out_fall",
        metric="validation/held_out",
        kind="rule",
        words="{:g} below its best while what is trained is at its height",
        beside="validation/reward/mean",
        patience=2,
        from_best=True,
        look=held_out_falls,
        cure="what is trained is being gamed, or learned too long: probe the reward, hold the policy closer to its "
        "reference (objective.kl_weight, a larger beta), or train for less long",
    ),
    Rule(
        signal="overfit",
        metric="validation/loss/total",
        kind="rule",
        words="{:.0%} above its best while the training loss falls",
        beside="loss/total",
        patience=2,
        from_best=True,
        look=overfits,
        cure="what is learned holds for the training data alone: train for less long, lower the learning rate, or get "
        "more data",
    ),
    Rule(
        signal="accuracy_gap",
        metric="reward/accuracy",
        kind="rule",
        words="{:g} above that of pairs that were not trained on",
        beside="validation/reward/accuracy",
        patience=2,
        from_best=True,
        look=learns_by_heart,
        cure="pairs are learned by heart: check their labels on a few rows, train for fewer epochs, or get more pairs",
    ),
    Rule(
        signal="displacement",
        metric="policy/chosen_shift",
        kind="below",
        look=below("policy/chosen_shift", -1.0),
        cure="the chosen answers become unlikely too, and what becomes likely instead nobody chose: raise "
        "objective.nll_weight, lower the learning rate, or raise objective.beta",
    ),
    Rule(
        signal="problems",
        metric="rollout/problems",
        kind="above",
        look=above("rollout/problems"),
        cure="a reward fails on many answers: reward-failures/ of the run folder has them with the reason; mend it",
    ),
    Rule(
        signal="without_signal",
        metric="rollout/without_signal",
        kind="above",
        look=above("rollout/without_signal"),
        cure="nearly all groups have answers of one worth: look at the reward, choose prompts of middling difficulty, "
        "raise the temperature, or sample anew with rollout.max_refills",
    ),
    Rule(
        signal="distinct",
        metric="rollout/distinct",
        kind="below",
        look=below("rollout/distinct"),
        cure="the answers of a group are nearly all the same: lower the learning rate, add objective.kl_weight or "
        "entropy_weight, or raise the temperature",
    ),
    Rule(
        signal="repetition",
        metric="rollout/repetition",
        kind="above",
        look=above("rollout/repetition"),
        cure="answers circle: probe the reward for padding, or add the reward repetition",
    ),
    Rule(
        signal="length_growth",
        metric="rollout/length",
        kind="above_first",
        look=length_grows,
        cure="answers grow without need: probe the reward for length, or add the reward length",
    ),
    Rule(
        signal="boxes_per_object",
        metric="rollout/boxes_per_object",
        kind="above",
        look=above("rollout/boxes_per_object"),
        cure="boxes are sprayed: the reward does not charge for surplus boxes; probe it",
    ),
    Rule(
        signal="kl",
        metric="kl/start",
        kind="above",
        patience=2,
        look=above("kl/start"),
        cure="the policy has left where it began: raise objective.kl_weight (or beta), or lower the learning rate",
    ),
    Rule(
        signal="grad_norm_spike",
        metric="optim/grad_norm",
        kind="rule",
        words="above {:g} times its running median",
        patience=1,
        look=gradient_jumps,
        cure="one update jumped: look at its answers, lower the learning rate or optim.max_grad_norm",
    ),
    Rule(
        signal="reward_collapse",
        metric="reward/mean",
        kind="rule",
        words="{:g} spreads below its best stretch",
        look=reward_collapses,
        cure="the reward has fallen far below what it was: lower the learning rate, and go on from before",
    ),
)
