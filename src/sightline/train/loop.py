"""The loop: update, log, evaluate, save; stops cleanly on Ctrl-C. All that a resumed run needs is in its checkpoint."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    """Last checkpoints that stay; the best on validation stays besides."""
    log_every: int = 1
    """Between lines of metrics."""
    evaluate_every: int | None = None
    """Between evaluations."""


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
    evaluate: Callable[[], dict[str, float]] | None = None
    """Validation metrics of the policy as it stands."""
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
    alarmed: Callable[[int, Alarm], None] = lambda step, alarm: None
    """Told of the step and an alarm after a checkpoint was written; may raise TrainingStopped."""
    best_step: int | None = None
    """Step whose validation loss was lowest."""
    best_loss: float = math.inf
    """That loss."""
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


def _restore(run: Run, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    run.feed.restore(facts["feed"], tensors)
    best_loss = math.inf if facts["best_loss"] is None else float(facts["best_loss"])
    best_step = None if facts["best_step"] is None else int(facts["best_step"])
    run.best_step, run.best_loss = best_step, best_loss
    if run.watch is not None:
        run.watch.restore(facts["watch"])


def run_loop(run: Run) -> None:
    """Update until the plan is fulfilled; KeyboardInterrupt after a checkpoint when the user asks to stop."""
    run.journal.status("running", step=run.engine.step)
    if run.engine.step == 0:
        _sample(run)
    counted = phase("step", run.plan.num_steps, done=run.engine.step, numbered=True)
    with asked_to_stop(STOPPING) as stop, counted as steps:
        while run.engine.step < run.plan.num_steps:
            _one_step(run, steps)
            if any_process(stop()):
                _save(run)
                run.journal.status("interrupted", step=run.engine.step)
                raise KeyboardInterrupt
    run.journal.status("done", step=run.engine.step)


def _one_step(run: Run, steps: Phase) -> None:
    began = time.monotonic()
    batch = next(run.feed)
    metrics = run.engine.update(batch) | run.feed.metrics()
    learned = time.monotonic() - began
    step, plan = run.engine.step, run.plan
    if run.rollouts is not None and rank_and_size()[0] == 0:
        run.journal.rollouts(step, run.rollouts())
    last = step == plan.num_steps
    best = False
    if run.evaluate is not None and plan.evaluate_every is not None and (step % plan.evaluate_every == 0 or last):
        with phase("evaluating"), run.engine.policy.whole_weights():
            found = run.evaluate()
        metrics |= {f"validation/{name}": value for name, value in found.items()}
        if found["loss/total"] < run.best_loss:
            run.best_step, run.best_loss, best = step, found["loss/total"], True
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
    if step % plan.log_every == 0 or last or best:
        _log(run, timed)
    steps.reach(step, facts=told_of(timed))
    run.show(step, plan.num_steps, timed)
    alarms = [] if run.watch is None else run.watch.look(step, timed)
    if step % plan.save_every == 0 or last or best or alarms:
        _save(run)
    for alarm in alarms:
        run.alarmed(step, alarm)


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
    best = None if math.isinf(run.best_loss) else run.best_loss
    facts = {"feed": run.feed.state(), "best_step": run.best_step, "best_loss": best}
    if run.watch is not None:
        facts["watch"] = run.watch.state()
    tensors = run.feed.tensors()
    run.journal.write_checkpoint(step, lambda folder: write_state(folder, run.engine, kept, facts, tensors))
    run.journal.prune(run.plan.keep_checkpoints, run.best_step)
