"""The page that the demo ends with: what the base did wrong, what alignment changed, and how sure that is.

Owns what the demo says and in which order. Knows neither models nor scenes: all of it comes in one frozen
`DemoResult`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.journal import atomic_write
from sightline.reports.box_act import BoxAct, box_act
from sightline.reports.charts import Point, interval_chart, line_chart
from sightline.reports.gallery import Answer, Card, answer_html, gallery, num_wrong, picture_html
from sightline.reports.page import bullets, definitions, navigation, page, section, text
from sightline.reports.results import (
    ROW_NAMES,
    MetricRow,
    aim,
    capital,
    gap_tile,
    results_table,
    tile,
    value_form,
)


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
    last_lines: tuple[str, ...]
    """What the terminal said at the end."""
    boxes: BoxAct | None = None
    """The second act, where it was played."""


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
        "boxes": ("Second act", "" if demo.boxes is None else box_act(demo.boxes)),
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
        return f"{capital(metric.name)} does not clearly change: {before} before, {after} after."
    outcome = f"{capital(metric.name)} {'falls' if change.estimate < 0 else 'rises'} from {before} to {after}"
    if len(demo.table) == 1:
        return outcome + "."
    other = demo.table[1]
    start, end = (value_form(other)(other.values[row].estimate) for row in (demo.rows[0], aligned))
    return f"{outcome}, while {other.name} goes from {start} to {end}."


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
    lines = "".join(f"<li>{text(line)}</li>" for line in demo.last_lines)
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
    tiles = "".join(tile(demo.rows, metric) for metric in demo.table[:2])
    tiles += gap_tile(demo.rows, demo.table[0], styles)
    body = f'<div class="tiles">{tiles}</div>{results_table(demo.rows, demo.table, styles)}'
    lead = (
        "Every model answers the same test scenes. Brackets hold 95% intervals from a paired bootstrap over "
        "scenes; changes are against the base; the gap runs from the base (0%) to the ceiling (100%)."
    )
    return section("Result", body, anchor="result", lead=lead)


def _intervals(demo: DemoResult, styles: Mapping[str, int]) -> str:
    names = {row: ROW_NAMES.get(row, row) for row in demo.rows}
    charts = "".join(
        interval_chart(
            {names[row]: metric.values[row] for row in demo.rows},
            title=f"{capital(metric.name)}: {aim(metric)}",
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
