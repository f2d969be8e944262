"""From a recipe to a run: model, data, reference, feed and engine put together; and back from a run to its model."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.batch import Batch
from sightline.build.batches import batch_maker, make_objective, make_reference
from sightline.build.evaluating import make_evaluate
from sightline.build.first_checks import about_features, about_gpus, first_checks, stop_at_failure
from sightline.build.held_out import held_out_measure
from sightline.build.loading import inputs_of, load_for_training, settled
from sightline.build.own_answers import make_own_answers
from sightline.build.plan import expected_memory
from sightline.build.rating import finish_rating, make_rating
from sightline.build.rl import (
    make_run_critic,
    rollout_feed,
    rollout_plan,
    temperature_of,
    time_outside,
)
from sightline.build.rows import check_first_rows, check_row
from sightline.build.run_judge import RunJudge, check_rewards, run_judge
from sightline.build.shown import rollout_rows, sample_rows
from sightline.build.watching import refuse_repeats, watch_run
from sightline.config import Recipe, as_begun, check_trust, make_recipe, names_code, to_dict
from sightline.config.same import goes_on
from sightline.config.schema import Ranking
from sightline.data.files import BadRow, bad_row, read_groups
from sightline.data.repeats import NOTHING, Finder, Repeats
from sightline.data.stream import Stream
from sightline.environment import environment
from sightline.journal import Follower, Journal, RunFailed, step_of
from sightline.models.arithmetic import AUTO
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded
from sightline.models.vision import Shelf
from sightline.progress import Say, each, phase, say, shown
from sightline.records import Group, RecordError
from sightline.reports.run_report import write_run_report
from sightline.rewards.pool import RewardFailed
from sightline.stopping import stop_at_once
from sightline.train.distributed import processes_joined, rank_and_size, speaks_of_processes, wait_for_all
from sightline.train.engine import Engine, TrainingStopped
from sightline.train.feeds import GroupFeed, of_aspect
from sightline.train.loop import Plan, Run, Show, resume_from_latest, run_loop, unseen
from sightline.train.optim import make_optimiser, make_schedule
from sightline.train.rollouts import RolloutFeed
from sightline.train.trackers import open_trackers
from sightline.train.verify import save_batch

ENOUGH, EVALUATIONS = 5, 10
"""Evaluations come with checkpoints where a run has enough of these, else so many times in a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Checked groups and what was left out."""

    groups: list[tuple[Group, Inputs]]
    """Each group with the reader that knows its file's pictures."""
    skipped: list[BadRow]
    """Rows that were left out."""
    repeats: Repeats = NOTHING
    """What repeats in the groups."""


def train(recipe: Recipe, *, say: Say = say, show: Show = unseen, go_on: str | None = None) -> Path:
    """Run a recipe from its start or from its last checkpoint; returns the run folder.

    `go_on` is the command that a user who stops it is told; by default `sightline resume` with the folder.
    """
    assert recipe.out is not None
    folder = Path(recipe.out)
    go_on = go_on or f"sightline resume {folder}{' --trust-remote-code' if names_code(recipe) else ''}"
    with shown(), stop_at_once(), processes_joined():
        if rank_and_size()[0] == 0:
            with _journal_of(recipe, folder, say) as journal:
                _watched_run(recipe, journal, say, show, go_on)
        else:
            _watched_run(recipe, Follower(folder), lambda line: None, unseen, go_on)
    return folder


def _journal_of(recipe: Recipe, folder: Path, say: Say) -> Journal:
    """The journal of a run that begins or goes on, under its lock; what is left to the machine is settled first."""
    if not goes_on(recipe):
        journal = Journal.create(folder, to_dict(settled(recipe, say)), environment())
    else:
        journal = Journal.open(folder)
    journal.lock()
    return journal


def _watched_run(recipe: Recipe, journal: Journal, say: Say, show: Show, go_on: str) -> None:
    """The run; however it ends, its folder says how."""
    try:
        wait_for_all()  # until the folder is there
        begun = make_recipe(journal.recipe(), source=str(journal.folder / "recipe.yaml"))
        _run(as_begun(recipe, begun), journal, say, show)
    except (TrainingStopped, RewardFailed) as error:
        journal.status("failed", reason=str(error))
        raise RunFailed(str(error)) from error
    except (ValueError, OSError) as error:
        with suppress(RunFailed):  # a full disk may not even take the status
            journal.status("failed", reason=str(error))
        raise
    except RuntimeError as error:
        if not speaks_of_processes(error):
            raise
        latest = journal.latest()
        saved = "nothing was saved yet" if latest is None else f"everything up to {latest.name} is saved"
        reason = f"another process of the run is gone; {saved}; its own words are above or in the launcher's log"
        journal.status("failed", reason=reason)
        raise RunFailed(f"{reason}; go on with the same command, on any number of processes") from error
    except KeyboardInterrupt:
        say(f"{_stopped(journal)}. Go on with: {go_on}")
        raise


def _stopped(journal: Journal) -> str:
    """What is saved of a run that was stopped: all of it, or what its last checkpoint holds."""
    latest, status = journal.latest(), journal.read_status()
    step = 0 if latest is None else step_of(latest)
    if status["state"] == "interrupted" and latest is not None and status["step"] == step:
        return f"stopped after step {step}; everything is saved"
    with suppress(RunFailed):  # a full disk may not even take the status
        journal.status("interrupted", step=step)
    if latest is None:
        return "stopped before the first checkpoint; nothing is saved yet"
    return f"stopped; the last checkpoint is that of step {step}, and updates after it are made again"


def resume(folder: Path, *, trust_remote_code: bool = False, say: Say = say, show: Show = unseen) -> Path:
    """Go on with a run from its last checkpoint, or from the one that is named (`RUN@120`).

    Code that its recipe brings or names runs where it is trusted.
    """
    journal = Journal.open(folder)
    source = str(journal.folder / "recipe.yaml")
    recipe = make_recipe(journal.recipe() | {"out": str(journal.folder)}, source=source)
    check_trust(recipe, trust_remote_code, source=source, own_code=False)
    if journal.which is not None:
        step = step_of(journal.checkpoint())
        say(f"going back to step {step}; what came after it is dropped")
        with journal:
            journal.rewind(step)
    return train(recipe, say=say, show=show)


def _run(recipe: Recipe, journal: Journal, say: Say, show: Show) -> None:
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    check_first_rows(recipe)
    check_rewards(recipe)
    with phase("estimating memory"):
        _tell(say, about_gpus(), expected_memory(recipe))
    torch.manual_seed(recipe.seed)
    loaded = load_for_training(recipe)
    data = read_data(recipe, recipe.data.files, loaded)
    journal.skipped(_rows(data.skipped))
    _tell(say, about_skipped(data, journal), *data.repeats.lines())
    refuse_repeats(recipe, data.repeats, say)
    policy = make_policy(recipe, loaded)
    validation = read_data(recipe, recipe.data.validation_files, loaded)
    _tell(say, about_features(recipe, policy, [*data.groups, *validation.groups]))
    reference = make_reference(recipe, policy, loaded, [data.groups, validation.groups], say)
    policy.own = make_own_answers(recipe, policy, [*data.groups, *validation.groups], journal, say)
    if recipe.train.shard:
        _cut(policy, say)
    rows = [*data.groups, *validation.groups]
    with run_judge(recipe, journal, rows) as judge, held_out_measure(recipe, rows) as measure:
        run = assemble(recipe, journal, loaded, policy, data, validation, reference, judge)
        run.evaluate = make_evaluate(recipe, run, data.groups, validation.groups, judge, measure, reference)
        run.show = show
        watch_run(recipe, run, len(data.groups), len(validation.groups), say)
        step = resume_from_latest(run)
        if step:
            say(f"going on from step {step} of {run.plan.num_steps}")
        elif recipe.train.check_first_batch:
            with phase("checking the first batch"), policy.whole_weights():
                for line in first_checks(recipe, policy, data.groups, reference):
                    if line.state != "skip":
                        say(stop_at_failure(line))
        run_loop(run)
    with policy.whole_weights():
        if rank_and_size()[0] == 0:
            _finish(recipe, policy, data, validation, journal, say)
        wait_for_all()


def _tell(say: Say, *lines: str | None) -> None:
    """The lines that there are."""
    for line in lines:
        if line is not None:
            say(line)


def about_skipped(data: Data, journal: Journal) -> str | None:
    """How many bad rows are left out, and where they are listed."""
    where = journal.folder / "skipped.jsonl"
    return f"{len(data.skipped)} bad rows are left out; they are listed in {where}" if data.skipped else None


def _cut(policy: Policy, say: Say) -> None:
    """Each process keeps its part of the weights."""
    if rank_and_size()[1] == 1:
        say("train.shard: there is one process, so it holds all weights")
    else:
        policy.shard()


def _finish(recipe: Recipe, policy: Policy, data: Data, validation: Data, journal: Journal, say: Say) -> None:
    """What the first process does when all updates are made: an ensemble where ratings are learned, and the report."""
    if recipe.rewards:
        say(time_outside(journal))
    if policy.rating is not None:
        finish_rating(recipe, policy, data.groups, validation.groups, journal, say)
    with phase("writing the report"):
        say(f"report: {write_run_report(journal.folder)}")


def read_data(recipe: Recipe, files: Sequence[str], loaded: Loaded) -> Data:
    """Every row of some files, checked before anything is trained: pictures open, lengths fit, signals are there."""
    groups: list[tuple[Group, Inputs]] = []
    skipped: list[BadRow] = []
    opened: set[str] = set()
    finder = Finder()
    keep = skipped.append if recipe.data.on_bad == "skip" else None
    for file in map(Path, files):
        inputs = inputs_of(recipe, loaded, file)
        rows = read_groups(file, on_bad=recipe.data.on_bad, on_skip=keep)
        for line, read in each(rows, f"reading {file}, row"):
            try:
                group = of_aspect(read, recipe.data.aspect)
                check_row(recipe, inputs, group, opened=opened)
                finder.add(group, [inputs.store.key(image) for image in group.prompt.images])
            except RecordError as error:
                if keep is None:
                    bad = bad_row(file, line, error)
                    raise RecordError(f"{bad.file}:{bad.line}: {bad.field}", bad.problem, bad.cure) from error
                keep(bad_row(file, line, error))
            else:
                groups.append((group, inputs))
    if files and not groups:
        raise ValueError(f"data.files: no usable row in {', '.join(files)}; sightline data check says why")
    return Data(groups=groups, skipped=skipped, repeats=finder.found())


def make_policy(recipe: Recipe, loaded: Loaded) -> Policy:
    """What scores and samples in the run."""
    policy = Policy(
        loaded.model,
        loaded.family,
        autocast=loaded.autocast,
        temperature=temperature_of(recipe),
        keep_feature_bytes=recipe.model.kept_features_mib * 2**20,
        critic=make_run_critic(recipe, loaded),
        rating=make_rating(recipe, loaded),
    )
    below = recipe.train.one_thread_below
    policy.one_thread_below = None if below == AUTO else below
    if recipe.model.features_folder is not None:
        folder = Path(recipe.model.features_folder)
        policy.vision.shelf = Shelf(folder, loaded.model, loaded.family, dtype=loaded.dtype)
    return policy


def assemble(
    recipe: Recipe,
    journal: Journal,
    loaded: Loaded,
    policy: Policy,
    data: Data,
    validation: Data,
    reference: Callable[[Batch], Tensor] | None,
    judge: RunJudge | None,
) -> Run:
    """A run's engine and feed, put together in its folder."""
    rank, world_size = rank_and_size()
    settings, optim = recipe.train, recipe.optim
    stream = Stream(
        len(data.groups),
        seed=recipe.seed,
        batch_size=settings.groups_per_step,
        epochs=settings.epochs,
        rank=rank,
        world_size=world_size,
    )
    passes = recipe.rollout.passes if judge is not None else 1
    num_steps = settings.steps or passes * (stream.num_batches or 0)
    heads = {} if policy.critic is None else policy.critic.trained()
    heads |= {} if policy.rating is None else policy.rating.trained()
    head_rate = recipe.objective.head_learning_rate if isinstance(recipe.objective, Ranking) else None
    engine = Engine(
        policy=policy,
        objective=make_objective(recipe),
        optimiser=make_optimiser(
            loaded.trained().values(),
            learning_rate=optim.learning_rate,
            betas=optim.betas,
            epsilon=optim.epsilon,
            weight_decay=optim.weight_decay,
            beside=heads.values(),
            beside_scale=(head_rate or recipe.critic.learning_rate or 10 * optim.learning_rate) / optim.learning_rate,
        ),
        schedule=make_schedule(
            optim.schedule,
            learning_rate=optim.learning_rate,
            num_steps=num_steps,
            warmup_fraction=optim.warmup_fraction,
        ),
        token_budget=settings.token_budget,
        max_grad_norm=optim.max_grad_norm,
        quarantine=lambda batch, step, why: save_batch(journal.folder / "bad-steps", batch, step, why, process=rank),
    )
    run = Run(
        engine=engine,
        feed=GroupFeed(data.groups, stream, batch_maker(recipe), reference)
        if judge is None
        else rollout_feed(recipe, data.groups, policy, judge, reference, num_steps),
        journal=journal,
        trained=loaded.trained() | heads,
        plan=Plan(
            num_steps=num_steps,
            save_every=settings.save_every,
            keep_checkpoints=settings.keep_checkpoints,
            log_every=settings.log_every,
            evaluate_every=settings.evaluate_every or _evaluate_every(num_steps, settings.save_every),
        ),
        trackers=open_trackers(
            recipe.tracking if rank == 0 else (), folder=journal.folder, run=recipe.name, recipe=to_dict(recipe)
        ),
    )
    if settings.samples > 0:
        shown = (validation.groups or data.groups)[: settings.samples]
        run.sample = sample_rows(recipe, policy, shown, judge, journal)
    if isinstance(run.feed, RolloutFeed) and recipe.rollout.samples > 0:
        num_rollouts = -(-num_steps // rollout_plan(recipe).steps_per_rollout)
        run.rollouts = rollout_rows(recipe, run.feed, data.groups, num_rollouts, journal)
    return run


def _evaluate_every(num_steps: int, save_every: int) -> int:
    return save_every if num_steps >= ENOUGH * save_every else -(-num_steps // EVALUATIONS)


def _rows(skipped: Sequence[BadRow]) -> list[dict[str, Any]]:
    return [{"file": b.file, "line": b.line, "field": b.field, "problem": b.problem, "cure": b.cure} for b in skipped]
