"""A run's monitors: what looks at its metrics, and what happens at an alarm: a warning once per signal, or a stop."""

from collections.abc import Callable

from sightline.config import Recipe
from sightline.data.repeats import Repeats
from sightline.journal import Journal
from sightline.progress import Say
from sightline.train.engine import TrainingStopped
from sightline.train.loop import Run
from sightline.train.monitors import Alarm, Bounds, Watch, watched
from sightline.train.rollouts import RolloutFeed

NOT_BOUNDS = {"action", "held_out", "held_out_prompts", "duplicates", "repeated_prompt"}
"""Keys of the block that are no bound on a metric."""
LEARNED_ENOUGH = frozenset({"overfit", "accuracy_gap"})
"""Signals that end a run where it is, as done: more training brings nothing, and the best checkpoint is kept."""


def watch_run(recipe: Recipe, run: Run, num_rows: int, num_validation: int, say: Say) -> None:
    """Give the run its monitors, unless they are off."""
    settings, journal = recipe.monitors, run.journal
    if settings.action == "off":
        return
    bounds = Bounds(**settings.model_dump(exclude=NOT_BOUNDS))
    journal.watched(watched(bounds))
    sampled = isinstance(run.feed, RolloutFeed)
    per_step = recipe.train.groups_per_step
    run.watch = Watch(
        bounds=bounds,
        updates_per_epoch=0.0 if sampled else -(-num_rows // per_step),
        rows_per_update=float(per_step),
        validation_rows=float(num_validation),
    )
    run.insists = settings.action == "stop"
    if run.insists:
        run.early = LEARNED_ENOUGH if sampled else LEARNED_ENOUGH | {"held_out_fall"}
    run.alarmed = _teller(recipe, run, say)


def _teller(recipe: Recipe, run: Run, say: Say) -> Callable[[int, Alarm, int | None], None]:
    """Writes an alarm down, says it, and stops the run if it must."""
    journal = run.journal

    def alarmed(step: int, alarm: Alarm, kept: int | None) -> None:
        sentence = f"{alarm.sentence}; {_kept(journal, alarm, kept)}"
        journal.alarm(step, {"signal": alarm.signal, "since": alarm.since, "sentence": sentence, "kept": kept})
        if alarm.signal in run.early:
            say(f"stopped early: {sentence}")
            return
        if not run.insists:
            say(f"warning: {sentence}")
            return
        groups = run.feed.last if isinstance(run.feed, RolloutFeed) else []
        shown = [c.text for answers in groups for c in answers.completions][:3]
        said = "".join(f"\n  answer: {text[:300]!r}" for text in shown)
        last = f" Last answers:{said}" if said else ""
        raise TrainingStopped(f"{sentence}; monitors.action: warn lets a run go on.{last}")

    return alarmed


def _kept(journal: Journal, alarm: Alarm, kept: int | None) -> str:
    """The checkpoint to go back to, in words."""
    if alarm.from_best:
        what = "is the best by the held-out measure"
        return f"{journal.folder}@{kept} {what}" if kept is not None else "no checkpoint was measured yet"
    return f"{journal.folder}@{kept} is from before" if kept is not None else "no checkpoint is from before"


def refuse_repeats(recipe: Recipe, repeats: Repeats, say: Say) -> None:
    """Rows that are mostly copies, or ask mostly one thing, teach that by heart: no run starts on them unasked."""
    settings = recipe.monitors
    found = []
    if settings.duplicates is not None and repeats.share > settings.duplicates:
        key, share = "duplicates", repeats.share
        found.append(f"{share:.0%} of the rows repeat an earlier one (monitors.{key} allows {settings.duplicates:.0%})")
    if settings.repeated_prompt is not None and repeats.share_of_one_prompt > settings.repeated_prompt:
        share, allowed = repeats.share_of_one_prompt, settings.repeated_prompt
        found.append(f"{share:.0%} of the rows have one prompt (monitors.repeated_prompt allows {allowed:.0%})")
    if not found or settings.action == "off":
        return
    sentence = f"data.files: {'; '.join([*found, *repeats.lines()])}"
    cure = "remove the copies, and to repeat data use train.epochs; or raise the bound"
    if settings.action == "stop":
        raise ValueError(f"{sentence}; {cure}")
    say(f"warning: {sentence}; {cure}")
