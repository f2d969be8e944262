"""The table of a comparison: models by metrics, with intervals, changes against the first row and the gap closed.

Owns how a metric and its change are written. Knows nothing of which page they stand on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sightline.evaluation.statistics import Interval
from sightline.reports.charts import interval_chart, swatch
from sightline.reports.page import fixed, percent, text

_MOST_COLUMNS = 5
ROW_NAMES: Mapping[str, str] = {
    "base": "Base",
    "sft": "SFT, same compute",
    "dpo": "DPO",
    "start": "Start (DPO)",
    "sft_boxes": "SFT, true boxes",
    "grpo": "GRPO, by the rule",
    "ceiling": "Ceiling",
}
ROW_MEANINGS: Mapping[str, str] = {
    "base": "as shipped, badly taught",
    "sft": "trained on the chosen answers alone",
    "dpo": "trained on chosen against rejected",
    "start": "what the first act ended with",
    "sft_boxes": "told the right boxes, same compute",
    "grpo": "told how good its own boxes were",
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


def value_form(metric: MetricRow) -> Callable[[float], str]:
    """How values of a metric are written."""
    return percent if metric.unit == "percent" else lambda value: fixed(value, 2)


def change_text(metric: MetricRow, value: float) -> str:
    """A change with its sign and unit: "+61.2%", "+0.4 points"."""
    if metric.change_kind == "relative":
        return percent(value, signed=True)
    return f"{fixed(value * 100, 1, signed=True)} points" if metric.unit == "percent" else fixed(value, 2, signed=True)


def tile(rows: Sequence[str], metric: MetricRow) -> str:
    """A metric before and after, in large."""
    aligned = rows[-2]
    form = value_form(metric)
    before, after = metric.values[rows[0]].estimate, metric.values[aligned].estimate
    change = (metric.change or {}).get(aligned)
    return (
        f'<div class="tile"><h3>{text(capital(metric.name))}</h3>'
        f'<p class="big"><span class="was">{text(form(before))}</span>'
        f'<span class="arrow" aria-hidden="true">→</span><span class="unseen"> to </span>'
        f"{text(form(after))}</p>"
        f"{_change_html(metric, change) if change else ''}"
        f'<p class="what">{text(metric.description)}</p></div>'
    )


def gap_tile(rows: Sequence[str], metric: MetricRow, styles: Mapping[str, int]) -> str:
    """How much of the way from the first row to the last was gone; empty where that is unknown."""
    closed = {row: value for row, value in (metric.gap_closed or {}).items() if row in rows[1:-1]}
    if not closed:
        return ""
    chart = interval_chart(
        {ROW_NAMES.get(row, row): value for row, value in closed.items()},
        title=f"Share of the gap closed: {metric.name}",
        form=lambda value: percent(value, digits=0),
        styles={ROW_NAMES.get(row, row): styles[row] for row in closed},
        marks={
            ROW_NAMES.get(rows[0], rows[0]): 0.0,
            ROW_NAMES.get(rows[-1], rows[-1]): 1.0,
        },
    )
    return f'<div class="tile wide">{chart}</div>'


def results_table(rows: Sequence[str], table: Sequence[MetricRow], styles: Mapping[str, int]) -> str:
    """All models by all metrics, a few to a table so that none is cut; the last row but one is the aligned model."""
    parts = [table[start : start + _MOST_COLUMNS] for start in range(0, len(table), _MOST_COLUMNS)]
    return "".join(_one_table(rows, part, styles) for part in parts)


def _one_table(rows: Sequence[str], table: Sequence[MetricRow], styles: Mapping[str, int]) -> str:
    heads = "".join(
        f'<th scope="col" role="columnheader">{text(capital(metric.name))}'
        f'<small>{text(metric.description)} <span class="aim">{aim(metric)}</span></small></th>'
        for metric in table
    )
    body = "".join(_table_row(rows, table, row, styles[row]) for row in rows)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of results">'
        '<table class="results" role="table"><thead role="rowgroup"><tr role="row">'
        f'<th scope="col" role="columnheader">Model</th>{heads}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _table_row(rows: Sequence[str], table: Sequence[MetricRow], row: str, style: int) -> str:
    strong = ' class="aligned"' if row == rows[-2] else ""
    cells = "".join(_cell(metric, row) for metric in table)
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
    return f'<td role="cell" data-label="{text(capital(metric.name))}">{"".join(lines)}</td>'


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


def aim(metric: MetricRow) -> str:
    """Which way is good, in words."""
    return {"lower": "↓ lower is better", "higher": "↑ higher is better", "neither": "shown beside"}[metric.better]


def capital(name: str) -> str:
    """With a capital first letter."""
    return name[:1].upper() + name[1:]
