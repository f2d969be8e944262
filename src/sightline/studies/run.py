"""Runs a study: what is missing of its files, its runs and its measurements, in that order; then the comparison.

Everything that is finished is kept in the study's folder and not made again, so a killed study goes on where it was.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from sightline import build
from sightline.build.compute import passes_of_equal_compute, tokens_of
from sightline.build.loading import settled
from sightline.config import ConfigError, Recipe, make_recipe, to_dict
from sightline.config.load import as_begun, differences
from sightline.journal import Journal, atomic_write, recipe_of
from sightline.progress import Say, each, phase, say, shown
from sightline.studies.analyse import Results, analyse
from sightline.studies.measure import answers_of
from sightline.studies.page import write_study_page
from sightline.studies.plan import Planned, planned_runs
from sightline.studies.plan import recipe_of as planned_recipe
from sightline.studies.prepare import OTHERWISE, prepare
from sightline.studies.schema import Study
from sightline.studies.tables import markdown


def run_study(study: Study, *, out: Path, say: Say = say, jobs: int = 1) -> Path:
    """Run what is missing and write `report.html`, `results.json` and `tables.md`; returns the report's path.

    `jobs` runs go on at once, each in a process and with its share of the cores; `say` must then be a function of a
    module.
    """
    with shown():
        return _run_study(study, out=out, say=say, jobs=jobs)


def _run_study(study: Study, *, out: Path, say: Say, jobs: int) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    out = out.resolve()
    judged = prepare(study, out, say=say)
    planned = planned_runs(study, out)
    for name, target in each(study.rows.items(), "measuring rows", len(study.rows)):
        answers_of(target, study.measure, study.primary, _answers_path(out, name))
    begun = _on_this_machine(planned_recipe(study, planned[0], out), out, say)
    work = partial(_train_and_measure, study, out, begun, say, len(planned))
    numbered = list(enumerate(planned, start=1))
    for scaled in (False, True):  # others are scaled to the first
        _each(work, [one for one in numbered if (study.arms[one[1].arm].equal_compute is not None) == scaled], jobs)
    facts = {run.name: _facts(study, run, judged) for run in planned}
    names = [*study.rows, *(run.name for run in planned)]
    answers = {name: json.loads(_answers_path(out, name).read_text(encoding="utf-8")) for name in names}
    with phase("comparing arms"):
        return write_results(study, analyse(study, planned, answers, facts), out)


def _on_this_machine(recipe: Recipe, out: Path, say: Say) -> Recipe:
    """The recipe with what is left to the machine settled once for all runs, and kept: arms differ in nothing else."""
    path = out / "machine.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        model = recipe.model.model_copy(update={"dtype": kept["dtype"]})
        train = recipe.train.model_copy(update={"one_thread_below": kept["one_thread_below"]})
        return recipe.model_copy(update={"model": model, "train": train})
    made = settled(recipe, say)
    kept = {"dtype": made.model.dtype, "one_thread_below": made.train.one_thread_below}
    atomic_write(path, json.dumps(kept, indent=1) + "\n")
    return made


def _each(work: Callable[[tuple[int, Planned]], None], runs: Sequence[tuple[int, Planned]], jobs: int) -> None:
    """Do the work of every run, `jobs` at once; the first failure stops what has not begun."""
    if jobs <= 1:
        for run in runs:
            work(run)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # the current folder is not where their libraries come from
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        waiting = [pool.submit(work, run) for run in runs]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train_and_measure(
    study: Study, out: Path, begun: Recipe, say: Say, total: int, numbered: tuple[int, Planned]
) -> None:
    """Train one run and ask its model, unless both are done."""
    number, run = numbered

    def tell(line: str) -> None:
        say(f"[{number}/{total}] {run.name}: {line}")

    alone = multiprocessing.parent_process() is None  # of several processes none draws a bar
    with shown(bar=alone), phase(f"[{number}/{total}] {run.name}"):
        _train(as_begun(_scaled(study, run, out), begun), run, tell)
        began = time.monotonic()
        answers_of(str(run.folder), study.measure, study.primary, _answers_path(out, run.name))
    if time.monotonic() - began > 1:
        tell("measured")


def _train(recipe: Recipe, run: Planned, tell: Say) -> None:
    known = recipe_of(run.folder)
    if known is not None:
        then = make_recipe(known)
        if other := differences(to_dict(as_begun(recipe, then)), to_dict(then)):
            raise ConfigError(f"{run.folder} was run with another recipe ({other[0]}); {OTHERWISE}")
    if known is None or Journal.open(run.folder).read_status()["state"] != "done":
        tell("begins" if known is None else "goes on")
        build.train(recipe, say=lambda line: None, go_on=f"the same command, or sightline resume {run.folder}")


def _answers_path(out: Path, name: str) -> Path:
    return out / "answers" / f"{name}.json"


def write_results(study: Study, results: Results, out: Path) -> Path:
    """The page, the figures as JSON, and the tables in Markdown."""
    atomic_write(out / "results.json", json.dumps(results.as_json(), indent=1) + "\n")
    atomic_write(out / "tables.md", "\n".join(markdown(study, results)) + "\n")
    return write_study_page(out / "report.html", study, results)


def _facts(study: Study, run: Planned, judged: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """What a finished run cost, and what it saw of itself."""
    journal = Journal.open(run.folder)
    rows = journal.read_updates()
    recipe = make_recipe(journal.recipe() | {"out": str(run.folder)})
    labels = study.arms[run.arm].labels
    if labels is None:
        labels = _labels(recipe, rows, judged)
    return {
        "seconds": median(row["time/step_seconds"] for row in rows) * len(rows) + _spent(recipe, judged, "seconds"),
        "steps": len(rows),
        "labels": labels,
        "tokens": tokens_of(recipe, rows),
        "alarms": sorted({str(alarm["signal"]) for alarm in journal.read_alarms()}),
        "own": _course(rows, "reward/mean"),
        "kl": _course(rows, "kl/reference"),
    }


def _labels(recipe: Recipe, rows: list[dict[str, float]], judged: Mapping[str, Mapping[str, float]]) -> int:
    """Answers that somebody judged for a run: those of its rollouts, or those behind its data files."""
    if recipe.rewards:
        sampled = sum(row.get("rollout/prompts_sampled", 0.0) for row in rows)
        return round(sampled * recipe.rollout.group_size)
    return round(_spent(recipe, judged, "judged"))


def _spent(recipe: Recipe, judged: Mapping[str, Mapping[str, float]], what: str) -> float:
    """What making a run's data files took."""
    return sum(judged.get(file, {}).get(what, 0.0) for file in recipe.data.files)


def _scaled(study: Study, run: Planned, out: Path) -> Recipe:
    """The run's recipe; its passes scaled where it may spend as much as another arm."""
    recipe = planned_recipe(study, run, out)
    rival = study.arms[run.arm].equal_compute
    if rival is None:
        return recipe
    other = Journal.open(out / "runs" / f"{rival}-{run.seed}")
    spent = tokens_of(make_recipe(other.recipe() | {"out": str(other.folder)}), other.read_updates())
    epochs = passes_of_equal_compute(recipe, spent)
    values = to_dict(recipe)
    values["train"] |= {"epochs": epochs, "steps": None}
    values["reference"] |= {"cache": None}
    return make_recipe(values)


def _course(rows: list[dict[str, float]], metric: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), row[metric]) for row in rows if metric in row]
