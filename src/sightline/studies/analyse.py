"""From kept answers to the comparison: figures with intervals over scenes and seeds, changes, stability, the answer.

An arm's figure is the mean over its seeds, with an interval over scenes and seeds (evaluation/seeds.py). What the
answer calls clear is clear after Holm's correction for the number of arms. Knows no models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import groupby
from statistics import mean
from typing import Any

import numpy as np

from sightline.evaluation.metrics import diversity, gather
from sightline.evaluation.seeds import Draws, Figure, figure_of, holm, p_value
from sightline.evaluation.statistics import Ratio, resampled_totals
from sightline.studies.measure import task_of
from sightline.studies.plan import Planned
from sightline.studies.schema import Metric, Study
from sightline.world.prompts import task_prompts
from sightline.world.tasks import find_task

RESAMPLES = 2000
WINDOW = 10
"""Updates up to a checkpoint over which its own reward and its KL are averaged."""
SURE = 0.05
"""A difference counts as clear below this p-value, corrected for the number of arms."""
FALL = 0.02
"""How far the truth must end below its best for a run to count as hacked; the fall must be clear at 99% besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One arm, or one model beside."""

    name: str
    """As in the study."""
    note: str = ""
    """What is special about it."""
    figures: Mapping[str, Figure]
    """By metric."""
    changes: Mapping[str, Figure] = field(default_factory=dict)
    """Against the study's row of comparison: after less before."""
    gap_closed: Figure | None = None
    """Share of the primary's gap between base and ceiling; none where one of them is missing."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """Means over seeds: seconds, labels, tokens, steps."""
    alarms: Mapping[str, int] = field(default_factory=dict)
    """Runs that raised an alarm, by its signal."""
    hacked: int | None = None
    """Runs whose own reward rose while the truth fell; none where that was not measured."""
    stable: bool | None = None
    """Whether every seed is close to its family's best, speaks with enough variety and was not gamed; none outside
    families."""
    course: tuple[Mapping[str, float], ...] = ()
    """At every kept checkpoint, means over seeds: step, tokens read, truth (the primary), own (what the run was trained
    on), kl (to the reference, per answer), the last two where the run logged them."""
    reached: float | None = None
    """Tokens read when nine tenths of the gain were reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A study's outcome."""

    study: str
    """Its name."""
    rows: tuple[Row, ...]
    """Models beside first, then arms in the study's order."""
    rivals: Mapping[str, Figure]
    """How far every arm is behind the best in the primary, better counted up, paired by scene and seed."""
    behind: Mapping[str, float]
    """Of the arms that ran with every seed: p-values of being behind the best, corrected by Holm."""
    changed: Mapping[str, float]
    """Of the same arms: p-values of the primary's change against the row of comparison, corrected by Holm."""
    best: str
    """The best of the arms that ran with every seed."""
    answer: str
    """The answer in a sentence or two."""
    scenes: Mapping[str, int]
    """Scenes by task."""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def analyse(
    study: Study,
    planned: Sequence[Planned],
    answers: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, Any]],
) -> Results:
    """The comparison, from what every model said and what every run cost."""
    members: dict[str, list[str]] = {name: [name] for name in study.rows} | {name: [] for name in study.arms}
    for run in planned:
        members[run.arm].append(run.name)
    metrics = {metric.key: metric for metric in (study.primary, *study.table, *study.mention, *_charted(study))}
    drawn = {
        name: {k: _drawn(m, answers[name]) for k, m in metrics.items()} for names in members.values() for name in names
    }
    rows = tuple(_row(study, name, names, metrics, drawn, answers, facts) for name, names in members.items())
    arms = [row for row in rows if row.name in study.arms]
    sign = 1.0 if study.primary.better == "higher" else -1.0
    whole = [row for row in arms if not _is_grid(study, row.name)] or arms
    best = max(whole, key=lambda row: sign * row.figures[study.primary.key].estimate).name
    rivals = {
        row.name: _difference(
            [sign * drawn[name][study.primary.key] for name in members[best]],
            [sign * drawn[name][study.primary.key] for name in members[row.name]],
        )
        for row in arms
        if row.name != best
    }
    return concluded(study, rows, rivals, best)


def concluded(study: Study, rows: tuple[Row, ...], rivals: Mapping[str, Figure], best: str) -> Results:
    """What follows from the figures: stability, corrected p-values and the answer."""
    rows = tuple(_judged(study, rows, row) for row in rows)
    key = study.primary.key
    whole = [row for row in rows if row.name in study.arms and not _is_grid(study, row.name)]
    results = Results(
        study=study.name,
        rows=rows,
        rivals=rivals,
        behind=holm({row.name: p_value(rivals[row.name]) for row in whole if row.name in rivals}),
        changed=holm({row.name: p_value(row.changes[key]) for row in whole if key in row.changes}),
        best=best,
        answer="",
        scenes=dict(study.measure.scenes),
    )
    return replace(results, answer=answer_of(study, results))


def answer_of(study: Study, results: Results) -> str:
    """What the primary says: the best arm, its gain, who is not clearly behind, and who is below the start."""
    rows, rivals = results.rows, results.rivals
    by_name = {row.name: row for row in rows}
    key, form = study.primary.key, study.primary.write
    top = by_name[results.best]
    figure = top.figures[key]
    words = f"By {study.primary.shown}, {top.name} is best: {form(figure.estimate)} "
    words += f"({form(figure.low)} to {form(figure.high)})"
    if key in top.changes:
        change = top.changes[key]
        words += f", {study.primary.write_change(change.estimate)} against {study.against}"
    close = [name for name, p in results.behind.items() if p >= SURE or rivals[name].estimate <= 0]
    told = [m for m in study.mention if m.key in top.changes]
    if told:
        words += f" ({', '.join(f'{m.shown} {m.write_change(top.changes[m.key].estimate)}' for m in told)})"
    words += f". Not clearly behind it: {', '.join(close)}." if close else ". Every other arm is clearly behind it."
    sign = 1.0 if study.primary.better == "higher" else -1.0
    worse = [name for name, p in results.changed.items() if p < SURE and sign * by_name[name].changes[key].estimate < 0]
    if worse:
        words += f" Clearly worse than {study.against}: {', '.join(worse)}."
    hacked = {row.name: row.hacked for row in rows if row.hacked}
    if hacked:
        listed = ", ".join(f"{name} ({n} of {len(by_name[name].figures[key].seeds)})" for name, n in hacked.items())
        words += f" Its own reward rose while the truth fell in {listed}."
    for family, xs in stable_ranges(study, rows).items():
        words += f" {family}: stable for {xs}." if xs else f" {family}: nowhere stable."
    return words


def stable_ranges(study: Study, rows: Sequence[Row]) -> dict[str, str]:
    """The stable strengths of every family, in words: neighbours as a range; empty text where none is."""
    found: dict[str, str] = {}
    stable = {row.name: bool(row.stable) for row in rows}
    for family, arms in families(study).items():
        if study.stable is None or len(arms) < 3:
            continue
        ranges = [[x for _, x in run] for good, run in groupby(arms, key=lambda arm: stable[arm[0]]) if good]
        found[family] = ", ".join(f"{xs[0]:g} to {xs[-1]:g}" if len(xs) > 1 else f"{xs[0]:g} alone" for xs in ranges)
    return found


def families(study: Study) -> dict[str, list[tuple[str, float]]]:
    """Arms that form a line, by family and in the order of x."""
    found: dict[str, list[tuple[str, float]]] = {}
    for name, arm in study.arms.items():
        if arm.family is not None and arm.x is not None:
            found.setdefault(arm.family, []).append((name, arm.x))
    return {family: sorted(arms, key=lambda pair: pair[1]) for family, arms in found.items()}


def ratio_of(metric: Metric, answers: Mapping[str, Any]) -> Ratio:
    """A metric of one model's kept answers, by scene."""
    if metric.task == "diversity":
        samples = answers["samples"]
        if metric.name == "entropy":
            top, bottom = np.asarray(samples["surprise"], dtype=np.float64).T
            return Ratio(numerator=top, denominator=bottom)
        return diversity(samples["texts"])[metric.name]
    key = metric.task if metric.split == "test" else f"{metric.task}@{metric.split}"
    return _scored(key, tuple(answers["greedy"][key]))[metric.name]


@cache
def _scored(key: str, texts: tuple[str, ...]) -> dict[str, Ratio]:
    task, split = task_of(key)
    prompts = task_prompts(task, split, len(texts))
    return gather([find_task(task).score(text, prompt.truth) for text, prompt in zip(texts, prompts, strict=True)])


def _drawn(metric: Metric, answers: Mapping[str, Any]) -> Draws:
    """The figure, then the figure on every resampled set of scenes; one seed, so models share the sets."""
    return _draws(ratio_of(metric, answers))


def _draws(ratio: Ratio) -> Draws:
    totals = resampled_totals(ratio.columns(), RESAMPLES, seed=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(totals[:, 1] == 0, 0.0, totals[:, 0] / totals[:, 1])


def _difference(after: Sequence[Draws], before: Sequence[Draws]) -> Figure:
    """after less before: seed by seed where both have the same number of them, else against the mean."""
    if len(after) == len(before):
        return figure_of([a - b for a, b in zip(after, before, strict=True)])
    middle = np.mean(np.stack(before), axis=0)
    return figure_of([a - middle for a in after])


def _row(
    study: Study,
    name: str,
    names: Sequence[str],
    metrics: Mapping[str, Metric],
    drawn: Mapping[str, Mapping[str, Draws]],
    answers: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, Any]],
) -> Row:
    figures = {key: figure_of([drawn[one][key] for one in names]) for key in metrics}
    if name not in study.arms:
        return Row(name=name, figures=figures)
    rival = (
        [study.against]
        if study.against in study.rows
        else [f"{study.against}-{one.rsplit('-', 1)[1]}" for one in names]
    )
    rival = [one for one in rival if one in drawn]
    changes = {
        key: _difference([drawn[one][key] for one in names], [drawn[one][key] for one in rival])
        for key in metrics
        if rival and name != study.against
    }
    courses = [_course(study.primary, answers[one], facts[one]) for one in names]
    known = [facts[one] for one in names]
    return Row(
        name=name,
        note=study.arms[name].note,
        figures=figures,
        changes=changes,
        gap_closed=_gap(study, names, drawn),
        cost={kind: mean(fact[kind] for fact in known) for kind in ("seconds", "labels", "tokens", "steps")},
        alarms=_counted([signal for fact in known for signal in fact["alarms"]]),
        hacked=_hacked(study, [answers[one]["along"] for one in names], known, answers),
        course=_middle(courses),
        reached=_reached(study, _middle(courses), answers),
    )


def _gap(study: Study, names: Sequence[str], drawn: Mapping[str, Mapping[str, Draws]]) -> Figure | None:
    if not {"base", "ceiling"} <= set(study.rows):
        return None
    base, ceiling = (drawn[row][study.primary.key] for row in ("base", "ceiling"))
    gap = ceiling - base
    if gap[0] == 0 or (np.sign(gap) != np.sign(gap[0])).any():
        return None
    return figure_of([(drawn[one][study.primary.key] - base) / gap for one in names])


def _course(primary: Metric, answers: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, float]]:
    """The primary, what was spent and what the run saw of itself, at every kept checkpoint."""
    found = []
    for step, texts in sorted(answers["along"].items(), key=lambda item: int(item[0])):
        ratio = _scored(primary.task, tuple(texts))[primary.name]
        point = {
            "step": float(step),
            "tokens": facts["tokens"] * int(step) / max(1, facts["steps"]),
            "truth": float(ratio.numerator.sum() / max(1e-9, ratio.denominator.sum())),
        }
        for name, series in (("own", facts["own"]), ("kl", facts["kl"])):
            near = [value for at, value in series if int(step) - WINDOW < at <= int(step)]
            if near:
                point[name] = mean(near)
        found.append(point)
    return found


def _middle(courses: Sequence[Sequence[Mapping[str, float]]]) -> tuple[dict[str, float], ...]:
    if len({tuple((point["step"], *sorted(point)) for point in course) for course in courses}) != 1:
        return ()  # seeds of unlike length
    return tuple({name: mean(point[name] for point in at) for name in at[0]} for at in zip(*courses, strict=True))


def _start(study: Study, answers: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The primary of the row of comparison, on the scenes of `along`."""
    if study.against not in study.rows or not study.measure.along:
        return None
    texts = answers[study.against]["greedy"].get(study.primary.task, [])[: study.measure.along]
    if not texts:
        return None
    ratio = _scored(study.primary.task, tuple(texts))[study.primary.name]
    return float(ratio.numerator.sum() / max(1e-9, ratio.denominator.sum()))


def _hacked(
    study: Study,
    spoken: Sequence[Mapping[str, Sequence[str]]],
    known: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Mapping[str, Any]],
) -> int | None:
    """Runs whose truth ended clearly below its best on the way, or below the start, while their own reward rose."""
    if _start(study, answers) is None or not all(spoken) or not all(fact["own"] for fact in known):
        return None
    sign = 1.0 if study.primary.better == "higher" else -1.0
    begun = answers[study.against]["greedy"][study.primary.task][: study.measure.along]
    count = 0
    for said, fact in zip(spoken, known, strict=True):
        own = [value for _, value in fact["own"]]
        fifth = max(1, len(own) // 5)
        texts = [begun, *(said[step] for step in sorted(said, key=int))]
        draws = [sign * _draws(_scored(study.primary.task, tuple(some))[study.primary.name]) for some in texts]
        fell = max(draws, key=lambda one: float(one[0])) - draws[-1]
        rose = mean(own[-fifth:]) > mean(own[:fifth])
        count += bool(rose and fell[0] > FALL and np.quantile(fell[1:], 0.005) > 0)
    return count


def _reached(
    study: Study, course: Sequence[Mapping[str, float]], answers: Mapping[str, Mapping[str, Any]]
) -> float | None:
    start = _start(study, answers)
    if start is None or not course:
        return None
    gain = course[-1]["truth"] - start
    return next((point["tokens"] for point in course if gain and (point["truth"] - start) / gain >= 0.9), None)


def _judged(study: Study, rows: Sequence[Row], row: Row) -> Row:
    """The row with its stability, where the study asks for it."""
    arm = study.arms.get(row.name)
    if arm is None or arm.family is None or study.stable is None:
        return row
    sign = 1.0 if study.primary.better == "higher" else -1.0
    key, spoken = study.primary.key, study.stable.diversity.key
    family = [other for other in rows if other.name in study.arms and study.arms[other.name].family == arm.family]
    top = max(sign * other.figures[key].estimate for other in family)
    close = all(sign * seed >= top - study.stable.within for seed in row.figures[key].seeds)
    against = next(other for other in rows if other.name == study.against)
    varied = row.figures[spoken].estimate >= study.stable.keeps * against.figures[spoken].estimate
    return replace(row, stable=close and varied and not row.hacked)


def _charted(study: Study) -> list[Metric]:
    asked = [metric for chart in study.charts for metric in (chart.y, chart.x) if metric is not None]
    return asked if study.stable is None else [*asked, study.stable.diversity]


def _is_grid(study: Study, name: str) -> bool:
    """Whether an arm is a point of a grid that is not run with every seed."""
    return study.arms[name].seeds is not None


def _counted(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names))}
