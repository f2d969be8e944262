"""What a study says, held against what there is, before anything is made: names, figures, scenes, places.

A study trains for hours before its first figure is made, so a misspelt figure must not be found then.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from sightline.bounded import cut
from sightline.evaluation.metrics import DIVERSITY
from sightline.registry import catalogue, did_you_mean
from sightline.studies.schema import Labels, Metric, Prompts, Samples, Study
from sightline.world.prompts import task_prompts
from sightline.world.tasks import find_task


def first_problem(study: Study) -> str | None:
    """What is wrong with a study, as `key: sentence`; None where nothing is."""
    return next((problem for found in (_names(study), _made(study), _figures(study)) for problem in found), None)


def _names(study: Study) -> Iterator[str]:
    for place, names in (("arms", study.arms), ("rows", study.rows)):
        for name in names:
            if not _is_inside(name) or "/" in name:
                yield f"{place}: {cut(name)!r} cannot name a folder; use letters, digits, dots and dashes"
    both = next((name for name in study.rows if name in study.arms), None)
    if both is not None:
        yield f"rows.{both}: is an arm too; give one of them another name"
    for key in study.measure.scenes:
        task, _, split = key.partition("@")
        yield from _known(f"measure.scenes.{key}", "task", task)
        yield from _known(f"measure.scenes.{key}", "split", split or "test")


def _made(study: Study) -> Iterator[str]:
    """Every file is made inside the study's folder, once, from what is made before it."""
    made: list[str] = []
    for number, step in enumerate(study.prepare, start=1):
        where = f"prepare: entry {number}"
        for name in (step.out, *((step.source,) if isinstance(step, Labels) else ())):
            if not _is_inside(name):
                yield f"{where}: {cut(name)!r} leaves the study's folder; name a file below it"
        if isinstance(step, Prompts | Samples):
            yield from _known(where, "task", step.task)
            yield from _known(where, "split", step.split)
        if isinstance(step, Prompts | Samples | Labels) and PurePosixPath(step.out).suffix not in (
            ".jsonl",
            ".parquet",
        ):
            yield f"{where}: out is {cut(step.out)!r}; end it in .jsonl or .parquet"
        if isinstance(step, Labels) and step.source not in made:
            yield f"{where}: source {cut(step.source)!r} is not made before it{did_you_mean(step.source, made)}"
        if step.out in made:
            yield f"{where}: {cut(step.out)!r} is made twice; give it another name"
        made.append(step.out)


def _figures(study: Study) -> Iterator[str]:
    """Every figure is one that its task has, of scenes that are measured."""
    places = [("primary", study.primary)]
    places += [(f"table: entry {i}", metric) for i, metric in enumerate(study.table, start=1)]
    places += [(f"mention: entry {i}", metric) for i, metric in enumerate(study.mention, start=1)]
    for i, chart in enumerate(study.charts, start=1):
        places += [(f"charts: entry {i}", metric) for metric in (chart.y, chart.x) if metric is not None]
    places += [] if study.stable is None else [("stable.diversity", study.stable.diversity)]
    for place, metric in places:
        yield from _figure(study, place, metric)


def _figure(study: Study, place: str, metric: Metric) -> Iterator[str]:
    if metric.task == "diversity":
        known = [*DIVERSITY, "entropy"]
        if not {"prompts", "answers"} <= set(study.measure.diversity):
            yield f"{place}: measures diversity; give measure.diversity its prompts and answers"
    else:
        yield from _known(place, "task", metric.task)
        yield from _known(place, "split", metric.split)
        key = metric.task if metric.split == "test" else f"{metric.task}@{metric.split}"
        if key not in study.measure.scenes:
            yield f"{place}: measures {key}, of which measure.scenes has none; add {key} to it"
            return
        truth = task_prompts(metric.task, metric.split, 1)[0].truth
        known = list(find_task(metric.task).score("", truth))
    if metric.name not in known:
        yield f"{place}: {metric.task} has no figure {cut(metric.name)!r}{did_you_mean(metric.name, known)}"


def _known(place: str, kind: str, name: str) -> Iterator[str]:
    known = catalogue()[kind]
    if name not in known:
        yield f"{place}: {kind} {cut(name)!r} is unknown{did_you_mean(name, known)}"


def _is_inside(name: str) -> bool:
    """Whether a name lies below the folder that it is joined to."""
    parts = PurePosixPath(name).parts
    odd = not name.strip() or not name.isprintable() or "{out}" in name or len(name) > 200
    return not odd and not name.startswith("/") and ".." not in parts and bool(parts)
