"""The loop: update, log, evaluate, save; stops cleanly on Ctrl-C. All that a resumed run needs is in its checkpoint."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from sightline.batch import Batch
from sightline.journal import Journal, step_of
from sightline.objectives.values import explained_variance_of
from sightline.progress import Phase, phase
from sightline.run_files import RunError
from sightline.stopping import asked_to_stop
from sightline.train.checkpoint import REMOVE, learned, read_state, write_state
from sightline.train.distributed import any_process, rank_and_size
from sightline.train.engine import Engine
from sightline.train.monitors import Alarm, Watch
from sightline.train.telling import facts as told_of
from sightline.train.trackers import Track

Show = Callable[[int, int, Mapping[str, float]], None]
"""Told of every step: its number, steps in all, metrics."""


def unseen(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
    """Nobody looks."""


STOPPING = "finishing this update, then saving; Ctrl-C again stops now"


class Feed(Protocol):
    """Batches with a position that can be kept."""

    def __next__(self) -> Batch:
        """The next batch."""
        ...

    def state(self) -> dict[str, Any]:
        """Where it stands, as plain JSON."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What belongs to the state and is no plain JSON."""
        ...

    def metrics(self) -> dict[str, float]:
        """Facts about how the last batch came about."""
        ...

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long a run is and what happens how often, in updates."""

    num_steps: int
    """Updates of the whole run."""
    save_every: int
    """Between checkpoints; the last update is always followed by one."""
    keep_checkpoints: int
    """Last checkpoints that stay; the best one stays besides, and what an alarm speaks of."""
    log_every: int = 1
    """Between lines of metrics."""
    evaluate_every: int | None = None
    """Between evaluations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The checkpoint that is best so far. Example: `Best(step=40, score=0.6, chosen_by="validation/held_out")`."""

    step: int
    """Its step."""
    score: float
    """More is better."""
    chosen_by: str
    """The metric that it is; of a loss the sign is turned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an evaluation measured. Example: `Evaluated(metrics={"validation/held_out": 0.6}, score=0.6, ...)`."""

    metrics: Mapping[str, float]
    """By the names under which they are logged."""
    score: float | None
    """What the best checkpoint is chosen by, more being better; None chooses none."""
    chosen_by: str
    """The metric that it is."""


@dataclass(slots=True, kw_only=True)
class Run:
    """What a loop works on."""

    engine: Engine
    """Makes the updates."""
    feed: Feed
    """Yields the batches."""
    journal: Journal
    """Takes metrics and checkpoints."""
    trained: Mapping[str, nn.Parameter]
    """Trained parameters by name, for the checkpoint."""
    plan: Plan
    """How long, how often."""
    evaluate: Callable[[], Evaluated] | None = None
    """Measures the policy as it stands."""
    sample: Callable[[], list[dict[str, Any]]] | None = None
    """Answers of the policy as it stands, to be read by a person."""
    rollouts: Callable[[], list[dict[str, Any]]] | None = None
    """Some groups of the rollout that the last batch began, to be read by a person."""
    trackers: Sequence[Track] = ()
    """Where metrics go besides."""
    show: Show = unseen
    """Tells a person how it goes: step, steps in all, metrics."""
    watch: Watch | None = None
    """Looks at the metrics for signs that the run goes wrong."""
    alarmed: Callable[[int, Alarm, int | None], None] = lambda step, alarm, kept: None
    """Told of the step, an alarm and the checkpoint that it speaks of; may raise TrainingStopped."""
    early: frozenset[str] = frozenset()
    """Signals whose alarm ends the run where it is, well: there is nothing more to gain."""
    ended: str | None = None
    """Why the run ended before its last update, if it did."""
    best: Best | None = None
    """The checkpoint that is best so far."""
    insists: bool = True
    """Whether an alarm is told each time, or once for each signal."""
    told: set[str] = field(default_factory=set)
    """Signals whose alarm was told."""
    named: set[int] = field(default_factory=set)
    """Checkpoints that an alarm spoke of."""
    sampled_step: int | None = None
    """Step at which answers were last sampled."""


def resume_from_latest(run: Run) -> int:
    """Go on from the last complete checkpoint, if there is one; returns the step."""
    latest = run.journal.latest()
    if latest is None:
        run.journal.rewind(-1)
        return 0
    run.journal.verify(latest)
    facts, tensors = read_state(latest, run.engine, run.trained)
    try:
        if run.engine.step != step_of(latest):
            raise IndexError(f"step {run.engine.step}")
        _restore(run, facts, tensors)
    except (KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
        raise RunError(f"{latest}: what its files hold does not fit this run ({error!r}); {REMOVE}") from error
    run.journal.rewind(step_of(latest))
    return run.engine.step


def _restore(run: Run, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Put feed, what was best, what was told and the monitors where the checkpoint left them."""
    run.feed.restore(facts["feed"], tensors)
    best = facts.get("best")
    run.best = None if best is None else Best(**best)
    run.named, run.told, run.ended = set(facts.get("named", ())), set(facts.get("told", ())), facts.get("ended")
    if run.watch is not None:
        run.watch.restore(facts["watch"])


def run_loop(run: Run) -> None:
    """Update until the plan is fulfilled; KeyboardInterrupt after a checkpoint when the user asks to stop."""
    run.journal.status("running", step=run.engine.step)
    if run.engine.step == 0:
        _before(run)
    counted = phase("step", run.plan.num_steps, done=run.engine.step, numbered=True)
    with asked_to_stop(STOPPING) as stop, counted as steps:
        while run.engine.step < run.plan.num_steps and run.ended is None:
            _one_step(run, steps)
            if any_process(stop()):
                _save(run)
                run.journal.status("interrupted", step=run.engine.step)
                raise KeyboardInterrupt
    ended = {} if run.ended is None else {"ended": run.ended}
    run.journal.status("done", step=run.engine.step, **ended)


def _before(run: Run) -> None:
    """What the policy says and is worth before its first update."""
    _sample(run)
    if run.evaluate is None:
        return
    with phase("evaluating"), run.engine.policy.whole_weights():
        found = run.evaluate()
    if found.score is not None:  # else there is only how far it went, which is 0
        _log(run, found.metrics)
    if run.watch is not None:
        run.watch.look(0, found.metrics)


def _one_step(run: Run, steps: Phase) -> None:
    began = time.monotonic()
    batch = next(run.feed)
    metrics = run.engine.update(batch) | run.feed.metrics()
    learned = time.monotonic() - began
    step, plan = run.engine.step, run.plan
    if run.rollouts is not None and rank_and_size()[0] == 0:
        run.journal.rollouts(step, run.rollouts())
    last = step == plan.num_steps
    due = plan.evaluate_every is not None and (step % plan.evaluate_every == 0 or last)
    measured = _evaluated(run) if due and run.evaluate is not None else {}
    metrics |= measured
    seconds = time.monotonic() - began
    at_model = run.engine.model_seconds + sum(metrics.get(f"time/{x}_seconds", 0.0) for x in ("sample", "credit"))
    timed = metrics | {
        "time/model_seconds": run.engine.model_seconds,
        "time/step_seconds": seconds,
        "time/outside_model": 1 - at_model / learned,
        "time/tokens_per_second": metrics["batch/tokens"] / seconds,
    }
    if "value/error" in metrics:
        timed["value/explained"] = explained_variance_of(metrics)
    if step % plan.log_every == 0 or last or any(name.startswith("validation/") for name in measured):
        _log(run, timed)
    steps.reach(step, facts=told_of(timed))
    run.show(step, plan.num_steps, timed)
    alarms = [] if run.watch is None else run.watch.look(step, timed)
    alarms = [alarm for alarm in alarms if run.insists or alarm.signal not in run.told]
    spoken_of = {alarm.signal: _go_back_to(run, alarm) for alarm in alarms}
    run.told |= spoken_of.keys()
    run.named |= {kept for kept in spoken_of.values() if kept is not None}
    run.ended = next((alarm.sentence for alarm in alarms if alarm.signal in run.early), None)
    is_best = run.best is not None and run.best.step == step
    if step % plan.save_every == 0 or last or is_best or alarms:
        _save(run)
    for alarm in alarms:
        run.alarmed(step, alarm, spoken_of[alarm.signal])


def _evaluated(run: Run) -> Mapping[str, float]:
    """What the policy is worth now; it may be the best so far."""
    assert run.evaluate is not None
    with phase("evaluating"), run.engine.policy.whole_weights():
        found = run.evaluate()
    score, best = found.score, run.best
    if score is not None and math.isfinite(score) and (best is None or score > best.score):
        run.best = Best(step=run.engine.step, score=score, chosen_by=found.chosen_by)
    return found.metrics


def _go_back_to(run: Run, alarm: Alarm) -> int | None:
    """The checkpoint to go back to: the best one, or the last from before the signal was beyond its bound."""
    if alarm.from_best:
        return None if run.best is None else run.best.step
    return max((step for step in map(step_of, run.journal.checkpoints()) if step < alarm.since), default=None)


def _log(run: Run, metrics: Mapping[str, float]) -> None:
    if rank_and_size()[0] == 0:
        run.journal.metrics(run.engine.step, metrics)
        for track in run.trackers:
            track(run.engine.step, metrics)


def _sample(run: Run) -> None:
    """Answers of the policy as it stands, once a step, by the first process."""
    step = run.engine.step
    if run.sample is not None and run.sampled_step != step:
        run.sampled_step = step
        with run.engine.policy.whole_weights():
            if rank_and_size()[0] == 0:
                run.journal.samples(step, run.sample())


def _save(run: Run) -> None:
    """A checkpoint by the first process; the others take part where weights are cut."""
    policy, first = run.engine.policy, rank_and_size()[0] == 0
    if not first and policy.sharding is None:
        return
    with phase("saving"):
        _write(run, first=first)


def _write(run: Run, *, first: bool) -> None:
    step = run.engine.step
    _sample(run)
    kept = learned(run.engine, run.trained, keep=first)
    if not first:
        return
    best = None if run.best is None else asdict(run.best)
    facts = {"feed": run.feed.state(), "best": best, "named": sorted(run.named), "told": sorted(run.told)}
    facts["ended"] = run.ended
    if run.watch is not None:
        facts["watch"] = run.watch.state()
    tensors = run.feed.tensors()
    run.journal.write_checkpoint(step, lambda folder: write_state(folder, run.engine, kept, facts, tensors), best=best)
    run.journal.prune(run.plan.keep_checkpoints, _wanted(run))


def _wanted(run: Run) -> set[int]:
    """Checkpoints that stay besides the last ones: the best, what alarms spoke of, and what one may speak of soon."""
    before = None if run.watch is None else run.watch.before(map(step_of, run.journal.checkpoints()))
    return run.named | ({run.best.step} if run.best else set()) | (set() if before is None else {before})
