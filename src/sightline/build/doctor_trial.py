"""The doctor's trial of one step: the run's own engine and feed, put together in a folder that goes away.

Everything that a first step does is done, once, but the update itself; its answers, rewards, time and memory are what
the doctor speaks of.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.batch import Batch
from sightline.build.loading import Row
from sightline.build.plan import status_sizes
from sightline.build.rl import learns_from_rewards, rollout_feed
from sightline.build.run_judge import RunJudge, run_judge
from sightline.build.runs import Data, assemble
from sightline.config import Recipe, to_dict
from sightline.environment import environment
from sightline.journal import Journal
from sightline.models.forward import Policy
from sightline.models.layout import packed_length
from sightline.models.load import Loaded
from sightline.models.reference import Reference
from sightline.records import Completion, Prompt
from sightline.rewards.boxes import Space
from sightline.rewards.contract import Judged
from sightline.train.engine import Engine
from sightline.train.rollouts import Answers, RolloutFeed

SHORT = 5.0
"""Seconds below which forward and backward passes are timed twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One step that was tried, without its update."""

    batch: Batch
    """What it learned from."""
    answers: Sequence[Answers]
    """What was sampled and judged; empty for a run on data."""
    frames: Mapping[str, Space]
    """The frame of every reward that reads boxes."""
    feed_seconds: float
    """Time to get the batch: reading, or sampling, judging and crediting."""
    model_seconds: float
    """Time of forward and backward passes."""
    peak: int | None
    """Most bytes that were in use: of the GPU, or of the process; None where nobody tells."""

    @property
    def tokens(self) -> int:
        """Packed tokens of the batch."""
        return packed_length(self.batch)


@contextmanager
def trial_folder(recipe: Recipe, num_groups: int) -> Iterator[tuple[Recipe, Journal]]:
    """The recipe cut down to one step of some groups, in a folder of its own, and the folder's journal."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        train = {"groups_per_step": num_groups, "steps": 1, "epochs": None, "samples": 0, "evaluate_every": None}
        kind = recipe.reference.kind
        small = recipe.model_copy(
            update={
                "out": str(out),
                "tracking": (),
                "data": recipe.data.model_copy(update={"validation_files": ()}),
                "train": recipe.train.model_copy(update=train),
                "rollout": recipe.rollout.model_copy(update={"prompts": None, "passes": 1, "max_refills": 0}),
                "reference": recipe.reference.model_copy(
                    update={"cache": str(Path(folder) / "reference") if kind == "cached" else None}
                ),
            }
        )
        with Journal.create(out, to_dict(small), environment()) as journal:
            yield small, journal


def try_step(
    small: Recipe, journal: Journal, loaded: Loaded, policy: Policy, rows: list[Row], reference: Reference | None
) -> Trial:
    """The first step of a cut-down recipe on some rows; ValueError and RewardFailed say what stopped it."""
    empty = Data(groups=[], skipped=[])
    with run_judge(small, journal, rows) as judge:
        run = assemble(small, journal, loaded, policy, Data(groups=rows, skipped=[]), empty, reference, judge)
        feed = run.feed
        if judge is not None:
            feed = rollout_feed(small, rows, policy, _Patient(judge), reference, 1)
            # a throw-away answer: what judges beside the model needs its time to start
            judge([rows[0][0].prompt], [(Completion(text="-"),)], progress=0.0)
        _forget_peak()
        began = time.monotonic()
        batch = next(feed)
        drawn = time.monotonic()
        seconds = _accumulate(run.engine, batch)
        if seconds < SHORT:  # the first time is slower than those to come
            seconds = min(seconds, _accumulate(run.engine, batch))
        peak = _peak()
        return Trial(
            batch=batch,
            answers=feed.last if isinstance(feed, RolloutFeed) else (),
            frames={} if judge is None else judge.frames(),
            feed_seconds=drawn - began if learns_from_rewards(small) else 0.0,
            model_seconds=seconds,
            peak=peak,
        )


def _accumulate(engine: Engine, batch: Batch) -> float:
    """Seconds of the forward and backward passes of a batch, whose gradients are thrown away."""
    began = time.monotonic()
    engine.accumulate(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    engine.optimiser.zero_grad(set_to_none=True)
    return time.monotonic() - began


class _Patient:
    """A run's judge that raises at nothing that it finds: the doctor has lines for it."""

    def __init__(self, judge: RunJudge) -> None:
        self._judge = judge

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[tuple[Completion, ...]], *, progress: float
    ) -> list[tuple[Judged, ...]]:
        return self._judge(prompts, answers, progress=progress)

    def observe(self, judged: Sequence[tuple[Judged, ...]]) -> None:
        pass

    def facts(self, progress: float) -> dict[str, float]:
        return self._judge.facts(progress)

    def state(self) -> dict[str, Any]:
        return self._judge.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self._judge.restore(state)


def _forget_peak() -> None:
    """Start anew to look for the highest use of memory, where the system allows that."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> int | None:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return status_sizes().get("VmHWM")
