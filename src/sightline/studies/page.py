"""A study as one HTML page: its question, the answer, the table, charts, and what it does not show."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sightline.evaluation.statistics import Interval
from sightline.journal import atomic_write
from sightline.reports.charts import NUM_STYLES, interval_chart, line_chart
from sightline.reports.page import bullets, definitions, navigation, page, section, text
from sightline.studies.analyse import Results, Row, families, stable_ranges
from sightline.studies.schema import Chart, Study
from sightline.studies.tables import columns, in_order


def write_study_page(path: Path, study: Study, results: Results) -> Path:
    """Write the page."""
    parts = {"answer": "Answer", "table": "Table", "charts": "Charts", "limits": "Limits"}
    first, *others = results.answer.split(". ")
    header = (
        f'<header class="hero"><div class="headline"><p class="eyebrow">Sightline study {text(study.name)}</p>'
        f'<h1>{text(first.rstrip("."))}</h1><p class="subtitle">{text(study.question)}</p></div></header>'
    )
    body = [
        section("Answer", _answer(study, results), anchor="answer", lead=". ".join(others)),
        section("Table", _table(study, results), anchor="table", lead=_lead(study, results)),
        section("Charts", f'<div class="charts">{_charts(study, results)}</div>', anchor="charts"),
        section("What it does not show", bullets(study.not_shown), anchor="limits"),
    ]
    html = f"{header}{navigation(parts)}<main>{chr(10).join(body)}</main>"
    atomic_write(path, page(title=f"Study {study.name}", body=html, description=study.question))
    return path


def _answer(study: Study, results: Results) -> str:
    facts = {
        "decided by": f"{study.primary.shown}, fixed beforehand",
        "equal for all": study.budget,
        "seeds": ", ".join(map(str, study.seeds)),
        "runs": str(sum(len(row.figures[study.primary.key].seeds) for row in results.rows if row.name in study.arms)),
        "scenes": ", ".join(f"{task} {num:,}" for task, num in results.scenes.items()),
    }
    return definitions(facts)


def _lead(study: Study, results: Results) -> str:
    words = "Means over seeds with 95% intervals over scenes and seeds. "
    words += f"A change is against {study.against}, paired by scene. "
    words += f"The answer calls a difference clear at 0.05 after Holm's correction for {len(results.changed)} arms."
    if any(row.hacked is not None for row in results.rows):
        words += " Hacked: runs whose own reward rose while the primary ended below its best on the way."
    if study.stable is not None:
        words += (
            f" Stable: every seed within {study.primary.write(study.stable.within)} of its family's best, and at least "
            f"{study.stable.keeps:.0%} of the variety of {study.against} left ({study.stable.diversity.shown}), and "
            "no run gamed."
        )
    return words


def _table(study: Study, results: Results) -> str:
    headings, rows = columns(study, results)
    kinds = ["", *[' class="n"'] * (len(headings) - 1)]
    head = "".join(
        f'<th scope="col"{kind}>{text(name.strip("*"))}{_unit(study, name)}</th>'
        for name, kind in zip(headings, kinds, strict=True)
    )
    body = "".join(_table_row(cells, row) for cells, row in zip(rows, in_order(study, results), strict=True))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of results">'
        '<table class="plain many"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _table_row(cells: list[str], row: Row) -> str:
    name = f'<th scope="row">{text(cells[0])}{_note(row)}</th>'
    return f"<tr>{name}{''.join(_table_cell(cell) for cell in cells[1:])}</tr>"


def _unit(study: Study, heading: str) -> str:
    """What stands once in the heading of changes instead of in every cell."""
    in_points = study.primary.write_change(1.0).endswith(" points")
    return " (points)" if in_points and heading == f"against {study.against}" else ""


def _table_cell(cell: str) -> str:
    """A figure, its interval on a line of its own."""
    figure, bracket, interval = cell.partition(" [")
    below = f'<small class="range">[{text(interval)}</small>' if bracket else ""
    return f'<td class="n">{text(figure.removesuffix(" points"))}{below}</td>'


def _note(row: Row) -> str:
    return f'<p class="remark">{text(row.note)}</p>' if row.note else ""


def _charts(study: Study, results: Results) -> str:
    primary = study.primary
    lanes = {
        row.name: Interval(estimate=figure.estimate, low=figure.low, high=figure.high)
        for row in results.rows
        if not (row.name in study.arms and study.arms[row.name].seeds is not None)
        for figure in (row.figures[primary.key],)
    }
    marks = {row.name: row.figures[primary.key].estimate for row in results.rows if row.name == study.against}
    drawn = {row.name: lanes[row.name] for row in in_order(study, results) if row.name in lanes}
    title = f"{primary.shown}, {primary.better} is better"
    parts = [interval_chart(drawn, title=title, form=primary.write, marks=marks, styles=_styles(study, drawn))]
    parts += [_chart(study, results, chart) for chart in study.charts]
    drifted = {name: course for name, course in _courses(study, results).items() if "kl" in course[-1]}
    parts += _along(study, _courses(study, results), lambda point: point["tokens"] / 1e6, "million tokens read")
    if drifted:
        far = "square root of the KL to the base, per token"
        parts += _along(study, drifted, lambda point: math.sqrt(max(0.0, point["kl"])), far)
    return "".join(parts)


def _styles(study: Study, names: Iterable[str]) -> dict[str, int]:
    """One style for each family of arms, one for all other arms, one for the models beside."""
    kinds = {family: i for i, family in enumerate(families(study))}
    arms = {arm: kinds[family] for family, found in families(study).items() for arm, _ in found}
    beside, others = NUM_STYLES - 5, len(kinds)
    return {name: arms.get(name, others if name in study.arms else beside) for name in names}


def _courses(study: Study, results: Results) -> dict[str, Sequence[Mapping[str, float]]]:
    return {row.name: row.course for row in results.rows if row.course and study.arms[row.name].seeds is None}


def _along(
    study: Study,
    courses: Mapping[str, Sequence[Mapping[str, float]]],
    place: Callable[[Mapping[str, float]], float],
    x_label: str,
) -> list[str]:
    """The truth and a run's own reward at its kept checkpoints, six arms to a chart."""
    found = []
    names = list(courses)
    for start in range(0, len(names), 6):
        some = {name: courses[name] for name in names[start : start + 6]}
        for what, shown in (("truth", study.primary.shown), ("own", "own reward")):
            series = {n: [(place(p), p[what]) for p in course if what in p] for n, course in some.items()}
            series = {name: points for name, points in series.items() if points}
            if series:
                note = "At every kept checkpoint, on fewer scenes than the table." if what == "truth" else ""
                found.append(line_chart(series, title=f"{shown} along the run", x_label=x_label, note=note))
    return found


def _chart(study: Study, results: Results, chart: Chart) -> str:
    by_name = {row.name: row for row in results.rows}
    series = {}
    for family, arms in families(study).items():
        if chart.families is not None and family not in chart.families:
            continue
        points = []
        for name, x in arms:
            at = x if chart.x is None else by_name[name].figures[chart.x.key].estimate
            figure = by_name[name].figures[chart.y.key]
            if at > 0 or not chart.log:
                points.append((at, figure.estimate, figure.low, figure.high))
        series[family] = points
    note = f"{_ranges(study, results)} Bars: 95% intervals over scenes and seeds.".strip()
    return line_chart(
        series, title=chart.title, x_label=chart.x_label(), y_label=chart.y.shown, log_x=chart.log, note=note
    )


def _ranges(study: Study, results: Results) -> str:
    found = stable_ranges(study, results.rows)
    return "Stable: " + "; ".join(f"{family} {xs or 'nowhere'}" for family, xs in found.items()) + "." if found else ""
