"""The page that the demo ends with: what the base did wrong, what alignment changed, and how sure that is.

Owns what the demo says and in which order. Knows neither models nor scenes: all of it comes in one frozen
`DemoResult`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline.evaluation.statistics import Interval
from sightline.journal import atomic_write
from sightline.reports.charts import Point, interval_chart, line_chart, swatch
from sightline.reports.gallery import Answer, Card, answer_html, gallery, num_wrong, picture_html
from sightline.reports.page import bullets, definitions, fixed, navigation, page, percent, section, text

ROW_NAMES: Mapping[str, str] = {
    "base": "Base",
    "sft": "SFT, same compute",
    "dpo": "DPO",
    "ceiling": "Ceiling",
}
ROW_MEANINGS: Mapping[str, str] = {
    "base": "as shipped, badly taught",
    "sft": "trained on the chosen answers alone",
    "dpo": "trained on chosen against rejected",
    "ceiling": "before it was badly taught",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One metric, measured on every model.

    Example: `MetricRow(name="hallucination", description="named objects that are absent", better="lower",
    values={"base": Interval(estimate=0.24, low=0.23, high=0.25), ...})`.
    """

    name: str
    """Short name ("hallucination")."""
    description: str
    """What is counted, in a few words."""
    better: Literal["lower", "higher", "neither"]
    """Which way is good; neither for what is shown beside (the length of answers)."""
    values: Mapping[str, Interval]
    """By row of the table."""
    unit: Literal["percent", "number"] = "percent"
    """How values are written; percent takes fractions."""
    change: Mapping[str, Interval] | None = None
    """Change from the base, by row."""
    change_kind: Literal["relative", "absolute"] = "relative"
    """after / before - 1, or after - before."""
    gap_closed: Mapping[str, Interval] | None = None
    """Share of the gap between base and ceiling, by row; none where the gap is not clear of zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """Everything that the page shows."""

    title: str
    """Name of the page."""
    subtitle: str
    """One sentence on what was done."""
    settings: Mapping[str, str]
    """What a reader needs to repeat it: seed, scenes, time, versions."""
    rows: tuple[str, ...]
    """The models of the table: the base first, the ceiling last, the aligned model just before it."""
    table: tuple[MetricRow, ...]
    """The metric that matters most comes first, the one that must not suffer second."""
    curves: Mapping[str, Mapping[str, Sequence[Point]]]
    """Title of a chart -> series -> points (step, value)."""
    gallery: tuple[Card, ...]
    """Scenes; the first one opens the page."""
    notes: tuple[str, ...]
    """What was planted, and what a drawn world does not show."""
    five_lines: tuple[str, ...]
    """What the terminal said at the end."""


def write_demo_report(path: Path, demo: DemoResult) -> Path:
    """Write the page to `path`, as a whole or not at all."""
    atomic_write(path, demo_page(demo))
    return path


def demo_page(demo: DemoResult) -> str:
    """The page as text."""
    _check(demo)
    styles = {row: i for i, row in enumerate(demo.rows)}
    parts = {
        "result": ("Result", _result(demo, styles)),
        "intervals": ("Intervals", _intervals(demo, styles)),
        "training": ("Training", _training(demo, styles)),
        "gallery": ("Gallery", _gallery(demo, styles)),
        "notes": ("Notes", _notes(demo)),
    }
    present = {anchor: name for anchor, (name, body) in parts.items() if body}
    body = (
        _hero(demo, styles) + navigation(present) + "<main>" + "\n".join(body for _, body in parts.values()) + "</main>"
    )
    return page(title=demo.title, body=body, description=result_sentence(demo))


def result_sentence(demo: DemoResult) -> str:
    """The outcome in a sentence; a change whose interval holds zero is not called a change."""
    metric, aligned = demo.table[0], demo.rows[-2]
    before, after = (value_form(metric)(metric.values[row].estimate) for row in (demo.rows[0], aligned))
    change = (metric.change or {}).get(aligned)
    if change is None or not change.excludes(0.0):
        return f"{_capital(metric.name)} does not clearly change: {before} before, {after} after."
    outcome = f"{_capital(metric.name)} {'falls' if change.estimate < 0 else 'rises'} from {before} to {after}"
    if len(demo.table) == 1:
        return outcome + "."
    other = demo.table[1]
    start, end = (value_form(other)(other.values[row].estimate) for row in (demo.rows[0], aligned))
    return f"{outcome}, while {other.name} goes from {start} to {end}."


def value_form(metric: MetricRow) -> Callable[[float], str]:
    """How values of a metric are written."""
    return percent if metric.unit == "percent" else lambda value: fixed(value, 2)


def change_text(metric: MetricRow, value: float) -> str:
    """A change with its sign and unit: "+61.2%", "+0.4 points"."""
    if metric.change_kind == "relative":
        return percent(value, signed=True)
    return f"{fixed(value * 100, 1, signed=True)} points" if metric.unit == "percent" else fixed(value, 2, signed=True)


def _check(demo: DemoResult) -> None:
    if len(demo.rows) < 3 or not demo.table:
        raise ValueError(
            "demo report: rows and table are too short; give base, aligned model and ceiling, and one metric"
        )
    for metric in demo.table:
        missing = [row for row in demo.rows if row not in metric.values]
        if missing:
            raise ValueError(f"demo report: metric {metric.name} has no value for {missing[0]}; measure every row")


def _hero(demo: DemoResult, styles: Mapping[str, int]) -> str:
    lines = "".join(f"<li>{text(line)}</li>" for line in demo.five_lines)
    console = f'<ul class="console" aria-label="Summary">{lines}</ul>' if lines else ""
    example = _example(demo, styles)
    return (
        f'<header class="hero{" with-example" if example else ""}"><div class="headline">'
        f'<p class="eyebrow">{text(demo.title)}</p><h1>{text(result_sentence(demo))}</h1>'
        f'<p class="subtitle">{text(demo.subtitle)}</p>{console}</div>{example}</header>'
    )


def _example(demo: DemoResult, styles: Mapping[str, int]) -> str:
    """The first scene of the gallery, before and after."""
    if not demo.gallery:
        return ""
    card = demo.gallery[0]
    answers = {answer.row: answer for answer in card.answers}
    shown = [answers[row] for row in (demo.rows[0], demo.rows[-2]) if row in answers]
    body = "".join(answer_html(answer, names=ROW_NAMES, styles=styles) for answer in shown)
    return f'<div class="example">{picture_html(card)}<div class="answers">{body}</div></div>'


def _result(demo: DemoResult, styles: Mapping[str, int]) -> str:
    tiles = "".join(_tile(demo, metric) for metric in demo.table[:2])
    body = f'<div class="tiles">{tiles}{_gap_tile(demo, styles)}</div>{_table(demo, styles)}'
    lead = (
        "Every model answers the same test scenes. Brackets hold 95% intervals from a paired bootstrap over "
        "scenes; changes are against the base; the gap runs from the base (0%) to the ceiling (100%)."
    )
    return section("Result", body, anchor="result", lead=lead)


def _tile(demo: DemoResult, metric: MetricRow) -> str:
    aligned = demo.rows[-2]
    form = value_form(metric)
    before, after = metric.values[demo.rows[0]].estimate, metric.values[aligned].estimate
    change = (metric.change or {}).get(aligned)
    return (
        f'<div class="tile"><h3>{text(_capital(metric.name))}</h3>'
        f'<p class="big"><span class="was">{text(form(before))}</span>'
        f'<span class="arrow" aria-hidden="true">→</span><span class="unseen"> to </span>'
        f"{text(form(after))}</p>"
        f"{_change_html(metric, change) if change else ''}"
        f'<p class="what">{text(metric.description)}</p></div>'
    )


def _gap_tile(demo: DemoResult, styles: Mapping[str, int]) -> str:
    metric = demo.table[0]
    closed = {row: value for row, value in (metric.gap_closed or {}).items() if row in demo.rows[1:-1]}
    if not closed:
        return ""
    chart = interval_chart(
        {ROW_NAMES.get(row, row): value for row, value in closed.items()},
        title=f"Share of the gap closed: {metric.name}",
        form=lambda value: percent(value, digits=0),
        styles={ROW_NAMES.get(row, row): styles[row] for row in closed},
        marks={
            ROW_NAMES.get(demo.rows[0], demo.rows[0]): 0.0,
            ROW_NAMES.get(demo.rows[-1], demo.rows[-1]): 1.0,
        },
    )
    return f'<div class="tile wide">{chart}</div>'


def _table(demo: DemoResult, styles: Mapping[str, int]) -> str:
    heads = "".join(
        f'<th scope="col" role="columnheader">{text(_capital(metric.name))}'
        f'<small>{text(metric.description)} <span class="aim">{_aim(metric)}</span></small></th>'
        for metric in demo.table
    )
    rows = "".join(_table_row(demo, row, styles[row]) for row in demo.rows)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of results">'
        '<table class="results" role="table"><thead role="rowgroup"><tr role="row">'
        f'<th scope="col" role="columnheader">Model</th>{heads}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table></div>'
    )


def _table_row(demo: DemoResult, row: str, style: int) -> str:
    strong = ' class="aligned"' if row == demo.rows[-2] else ""
    cells = "".join(_cell(metric, row) for metric in demo.table)
    meaning = f"<small>{text(ROW_MEANINGS[row])}</small>" if row in ROW_MEANINGS else ""
    return (
        f'<tr role="row"{strong}><th scope="row" role="rowheader"><span class="model">{swatch(style)}'
        f"{text(ROW_NAMES.get(row, row))}</span>{meaning}</th>{cells}</tr>"
    )


def _cell(metric: MetricRow, row: str) -> str:
    value, form = metric.values[row], value_form(metric)
    change, closed = (metric.change or {}).get(row), (metric.gap_closed or {}).get(row)
    lines = [f'<span class="estimate">{text(form(value.estimate))}</span>{_bracket(value, form)}']
    if change is not None:
        lines.append(_change_html(metric, change))
    if closed is not None:
        whole = lambda share: percent(share, digits=0)  # noqa: E731
        lines.append(f'<p class="gap">gap closed <b>{text(whole(closed.estimate))}</b> {_bracket(closed, whole)}</p>')
    return f'<td role="cell" data-label="{text(_capital(metric.name))}">{"".join(lines)}</td>'


def _change_html(metric: MetricRow, change: Interval) -> str:
    kind, sign = _verdict(metric, change)
    ends = (change_text(metric, end).removesuffix(" points") for end in (change.low, change.high))
    return (
        f'<p class="change {kind.split()[-1]}"><span aria-hidden="true">{sign}</span> '
        f"<b>{text(change_text(metric, change.estimate))}</b> "
        f'<span class="range">[{text(", ".join(ends))}]</span><span class="unseen"> ({kind})</span></p>'
    )


def _verdict(metric: MetricRow, change: Interval) -> tuple[str, str]:
    """A word and a sign for a change; none for one whose interval holds zero."""
    if not change.excludes(0.0):
        return "no clear change", "≈"
    sign = "▼" if change.estimate < 0 else "▲"
    if metric.better == "neither":
        return "changed", sign
    return ("better" if (change.estimate < 0) == (metric.better == "lower") else "worse"), sign


def _bracket(value: Interval, form: Callable[[float], str]) -> str:
    return f'<span class="range">[{text(form(value.low))}, {text(form(value.high))}]</span>'


def _aim(metric: MetricRow) -> str:
    return {"lower": "↓ lower is better", "higher": "↑ higher is better", "neither": "shown beside"}[metric.better]


def _intervals(demo: DemoResult, styles: Mapping[str, int]) -> str:
    names = {row: ROW_NAMES.get(row, row) for row in demo.rows}
    charts = "".join(
        interval_chart(
            {names[row]: metric.values[row] for row in demo.rows},
            title=f"{_capital(metric.name)}: {_aim(metric)}",
            form=value_form(metric),
            styles={names[row]: styles[row] for row in demo.rows},
        )
        for metric in demo.table
    )
    lead = (
        "Markers are estimates, whiskers 95% intervals of each model alone. Models answer the same scenes, "
        "so two whiskers may overlap where the paired change in the table is clear of zero."
    )
    return section("Intervals", f'<div class="charts">{charts}</div>', anchor="intervals", lead=lead)


def _training(demo: DemoResult, styles: Mapping[str, int]) -> str:
    if not demo.curves:
        return ""
    charts = []
    for title, series in demo.curves.items():
        others = [name for name in series if name not in styles]
        looks = {**styles, **{name: len(styles) + i for i, name in enumerate(others)}}
        named = {ROW_NAMES.get(name, name): points for name, points in series.items()}
        chosen = {ROW_NAMES.get(name, name): style for name, style in looks.items()}
        charts.append(line_chart(named, title=title, x_label="step", styles=chosen))
    lead = "What the runs logged along the way. SFT and DPO spend the same counted operations on the same pairs."
    return section("Training", f'<div class="charts">{"".join(charts)}</div>', anchor="training", lead=lead)


def _gallery(demo: DemoResult, styles: Mapping[str, int]) -> str:
    if not demo.gallery:
        return ""
    aligned = [answer for card in demo.gallery for answer in card.answers if answer.row == demo.rows[-2]]
    base = [answer for card in demo.gallery for answer in card.answers if answer.row == demo.rows[0]]
    lead = (
        f"{len(demo.gallery)} test scenes with the answers of every model. "
        f"On these, the base makes {_mistakes(base)} and "
        f"{ROW_NAMES.get(demo.rows[-2], demo.rows[-2])} {_mistakes(aligned)}."
    )
    return section("Gallery", gallery(demo.gallery, names=ROW_NAMES, styles=styles), anchor="gallery", lead=lead)


def _mistakes(answers: Sequence[Answer]) -> str:
    count = sum(num_wrong(answer) for answer in answers)
    return f"{count} mistake{'s' * (count != 1)}"


def _notes(demo: DemoResult) -> str:
    body = bullets(demo.notes) + "<h3>Settings</h3>" + definitions(demo.settings)
    return section("What was planted, and what this shows", body, anchor="notes")


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
