"""A study's table as texts, and the same in Markdown: one row a model, figures with intervals, what each cost."""

from collections.abc import Sequence

from sightline.evaluation.seeds import Figure
from sightline.studies.analyse import Results, Row
from sightline.studies.schema import Metric, Study


def columns(study: Study, results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, as plain texts."""
    primary = study.primary
    headings = ["arm", f"**{primary.shown}**", f"against {study.against}", "gap closed"]
    headings += [metric.shown for metric in study.table]
    headings += ["answers judged", "million tokens", "minutes"]
    tracked = any(row.hacked is not None for row in results.rows)
    headings += ["hacked"] if tracked else []
    headings += ["stable"] if study.stable is not None else []
    return headings, [_cells(study, row, tracked=tracked) for row in in_order(study, results)]


def in_order(study: Study, results: Results) -> list[Row]:
    """Rows as they are read: models beside, then arms from the best down, points of grids after the arms."""
    sign = -1.0 if study.primary.better == "higher" else 1.0

    def place(row: Row) -> tuple[int, float]:
        if row.name not in study.arms:
            return 0, 0.0
        return 1 + (study.arms[row.name].seeds is not None), sign * row.figures[study.primary.key].estimate

    return sorted(results.rows, key=place)


def markdown(study: Study, results: Results) -> list[str]:
    """The study as a page: question, answer, table and limits."""
    headings, rows = columns(study, results)
    lines = [
        f"# Study {study.name}",
        "",
        f"**Question.** {study.question}",
        "",
        f"**Budget.** {study.budget}",
        "",
        f"**Answer.** {results.answer}",
        "",
    ]
    lines += [_line(headings), _line(["---"] * len(headings)), *(_line(row) for row in rows), ""]
    scenes = ", ".join(f"{task} {num:,}" for task, num in results.scenes.items())
    seeds = f"{len(study.seeds)} seeds" if len(study.seeds) > 1 else "1 seed"
    lines += [
        f'{seeds}; scenes: {scenes}. Intervals of 95% over scenes and seeds; "against" and "gap closed" are '
        "paired by scene. "
        f"The answer calls a difference clear at 0.05 after Holm's correction for {len(results.changed)} arms.",
        "",
    ]
    if results.rivals:
        behind = ", ".join(
            f"{name} {_change(study.primary, figure)}{_sure(results.behind.get(name))}"
            for name, figure in results.rivals.items()
        )
        lines += [f"Behind {results.best}, paired by scene and seed, with p-values after Holm: {behind}.", ""]
    notes = [f"`{row.name}`: {row.note}" for row in results.rows if row.note]
    lines += [f"- {note}" for note in notes] + ([""] if notes else [])
    lines += ["What it does not show:", "", *(f"- {limit}" for limit in study.not_shown)]
    return lines


def value_text(metric: Metric, figure: Figure) -> str:
    """A figure with its interval: "48.2% [46.1, 50.3]"."""
    low, high = (metric.write(value).removesuffix("%") for value in (figure.low, figure.high))
    return f"{metric.write(figure.estimate)} [{low}, {high}]"


def _change(metric: Metric, figure: Figure) -> str:
    low, high = (metric.write_change(value).removesuffix(" points") for value in (figure.low, figure.high))
    return f"{metric.write_change(figure.estimate)} [{low}, {high}]"


def _sure(p: float | None) -> str:
    """A corrected p-value in words; nothing for a point of a grid, which is no main comparison."""
    return "" if p is None else " p < 0.001" if p < 0.001 else f" p = {p:.3f}"


def _cells(study: Study, row: Row, *, tracked: bool) -> list[str]:
    primary, seeds = study.primary, len(row.figures[study.primary.key].seeds)
    change = row.changes.get(primary.key)
    cells = [row.name, value_text(primary, row.figures[primary.key])]
    cells += ["" if change is None else _change(primary, change)]
    cells += ["" if row.gap_closed is None else f"{row.gap_closed.estimate:.0%}"]
    cells += [metric.write(row.figures[metric.key].estimate) for metric in study.table]
    cost = row.cost
    cells += (
        [f"{cost['labels']:,.0f}", f"{cost['tokens'] / 1e6:.1f}", f"{cost['seconds'] / 60:.1f}"] if cost else [""] * 3
    )
    if tracked:
        cells.append("" if row.hacked is None else f"{row.hacked} of {seeds}")
    if study.stable is not None:
        cells.append("" if row.stable is None else "yes" if row.stable else "no")
    return cells


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
