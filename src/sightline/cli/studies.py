"""`sightline study`: run a study that ships or one of your own, look at its plan, or list what there is."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from sightline.cli.parts import FLAG, app, cell, say, show
from sightline.config import ConfigError
from sightline.registry import did_you_mean
from sightline.studies.plan import Cost, costs, load_study, planned_runs, study_names
from sightline.studies.schema import Study

OPTIONS = ("--quick", "--dry-run", "--jobs", "--out")


@app.command
def study(
    name: str | None = None,
    /,
    *overrides: Annotated[str, Parameter(name="KEY=VALUE", allow_leading_hyphen=True)],
    quick: Annotated[bool, FLAG] = False,
    dry_run: Annotated[bool, FLAG] = False,
    jobs: int = 1,
    out: Path | None = None,
) -> None:
    """Answer a question by a grid of runs with seeds: one table with intervals, charts, and the answer in a sentence.

    Whatever is finished stays in the study's folder: a study that was stopped goes on with the same command, and one
    with another arm or seed runs only what is missing. Without a name, the studies that ship are listed.

    Example: `sightline study kl --quick`

    Args:
        name: A study that ships, or a YAML file of your own.
        overrides: Keys of the study laid on top, such as `seeds=[0]` or `measure.scenes.describe=200`.
        quick: A small form in minutes: fewer seeds, arms, updates and scenes; it shows the machinery, not the answer.
        dry_run: Print every run with its updates, sampled answers and expected minutes, and stop.
        jobs: Runs that go on at once, each with its share of the cores; small models use two cores best by 2.
        out: The study's folder; runs/studies/NAME by default.
    """
    if name is None:
        _list()
        return
    for word in overrides:
        if word.startswith("-"):
            raise ConfigError(f"unknown option {word}{did_you_mean(word, ('--quick', '--dry-run', '--jobs', '--out'))}")
    asked = load_study(name, overrides, quick=quick)
    folder = out if out is not None else Path("runs/studies") / (f"{asked.name}-quick" if quick else asked.name)
    if dry_run:
        _plan(asked, folder)
        return
    from sightline.studies.run import run_study

    report = run_study(asked, out=folder, jobs=jobs)
    say(f"report: {report}")
    say(f"tables: {report.with_name('tables.md')}, {report.with_name('results.json')}")


def _list() -> None:
    table = Table("study", "question", "runs", title="Studies that ship", title_justify="left")
    for name in study_names():
        found = load_study(name)
        table.add_row(name, cell(found.question), str(len(planned_runs(found, Path()))))
    show(table)
    say("next: sightline study NAME --quick, sightline study NAME --dry-run")


def _plan(asked: Study, folder: Path) -> None:
    say(asked.question)
    say(f"Decided by {asked.primary.shown}. Equal for all: {asked.budget}")
    for step in asked.prepare:
        say(f"made first: {step.out} ({step.make})")
    table = Table("arm", "seeds", "updates", "answers sampled", "minutes each", title="Runs", title_justify="left")
    total, unknown = 0.0, False
    for arm, (seeds, cost) in costs(asked, folder).items():
        rival = asked.arms[arm].equal_compute
        updates = f"as many tokens as {rival}" if rival else "by its data" if cost.steps is None else f"{cost.steps:,}"
        table.add_row(
            arm, " ".join(map(str, seeds)), updates, f"{cost.answers:,}" if cost.answers else "", _minutes(cost)
        )
        total += len(seeds) * (cost.seconds or 0.0)
        unknown = unknown or cost.seconds is None
    show(table)
    num = len(planned_runs(asked, folder))
    at_least = "at least " if unknown else ""
    say(f"{num} runs, {at_least}{total / 60:.0f} minutes of training at the speed that the study notes; in {folder}")


def _minutes(cost: Cost) -> str:
    return "" if cost.seconds is None else f"{cost.seconds / 60:.1f}"
