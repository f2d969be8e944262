"""The page of one run, made from its folder alone: how it stands, what it logged, what it answered.

Owns which metrics share a chart: one chart for each group (what stands before the "/"), split in two where
the sizes in a group are so unlike that the small ones would be drawn flat. Knows nothing of what a metric
means.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sightline.journal import Journal, atomic_write
from sightline.reports.charts import NUM_STYLES, Point, line_chart
from sightline.reports.monitors import monitors
from sightline.reports.page import compact, definitions, navigation, page, section, text
from sightline.reports.rating import reward_model

Metrics = Mapping[str, Sequence[Point]]

_UNLIKE = 30.0
"""Metrics whose largest values differ by more than this share no axes."""
_MOST_SAMPLES = 24
_MOST_SKIPPED = 20


def write_run_report(folder: Path) -> Path:
    """Write `report.html` into the run folder, as a whole or not at all."""
    path = Path(folder) / "report.html"
    atomic_write(path, run_page(Path(folder)))
    return path


def run_page(folder: Path) -> str:
    """The page as text."""
    journal = Journal.open(folder)
    recipe, status, rows = journal.recipe(), journal.read_status(), journal.read_metrics()
    metrics = series_of(rows)
    name = str(recipe.get("name") or folder.resolve().name)
    parts = {
        "rated": ("Reward model", reward_model(folder)),
        "watch": ("Monitors", monitors(journal.read_watched(), journal.read_alarms(), metrics)),
        "metrics": ("Metrics", _charts(metrics)),
        "last": ("Last values", _last_values(metrics)),
        "samples": ("Samples", _samples(journal.read_samples())),
        "skipped": ("Skipped rows", _skipped(journal.read_skipped())),
        "recipe": ("Recipe", _recipe(recipe, folder)),
    }
    present = {anchor: title for anchor, (title, body) in parts.items() if body}
    header = (
        '<header class="hero"><div class="headline"><p class="eyebrow">Sightline run</p>'
        f"<h1>{text(name)}</h1>{_status(status, metrics)}</div></header>"
    )
    body = "\n".join(body for _, body in parts.values() if body)
    return page(title=f"{name}: a Sightline run", body=f"{header}{navigation(present)}<main>{body}</main>")


def series_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Metric -> points (step, value), from the lines of metrics.jsonl; what is not a number is left out."""
    series: dict[str, list[Point]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                series.setdefault(name, []).append((float(row["step"]), float(value)))
    return series


def chart_groups(metrics: Metrics) -> dict[str, list[list[str]]]:
    """Group -> charts -> names of metrics; timing comes last, and rewards first where they are learned from."""
    groups: dict[str, list[str]] = {}
    for name in metrics:
        groups.setdefault(name.partition("/")[0], []).append(name)
    learns_from_rewards = "rollout" in groups  # then the loss says nothing, and the reward everything
    first = ("validation", "reward", "rollout", "curriculum") if learns_from_rewards else ()
    ordered = sorted(groups, key=lambda group: (group == "time", first.index(group) if group in first else len(first)))
    return {group: _of_like_size(groups[group], metrics) for group in ordered}


def _of_like_size(names: Sequence[str], metrics: Metrics) -> list[list[str]]:
    """The names in as few charts as let every line be seen, largest values first."""
    sizes = {name: max((abs(y) for _, y in metrics[name] if y == y), default=0.0) for name in names}
    charts: list[list[str]] = []
    for name in sorted(names, key=lambda name: -sizes[name]):
        fits = charts and len(charts[-1]) < NUM_STYLES and sizes[charts[-1][0]] <= _UNLIKE * sizes[name]
        if fits or (charts and sizes[name] == 0 and len(charts[-1]) < NUM_STYLES):
            charts[-1].append(name)
        else:
            charts.append([name])
    return [sorted(chart, key=list(names).index) for chart in charts]


def _charts(metrics: Metrics) -> str:
    if not metrics:
        return section("Metrics", '<p class="empty">Nothing has been logged yet.</p>', anchor="metrics")
    drawn = []
    for group, charts in chart_groups(metrics).items():
        for i, names in enumerate(charts):
            title = f"{group} ({i + 1} of {len(charts)})" if len(charts) > 1 else group
            title = names[0] if len(names) == 1 else title
            drawn.append(line_chart({name: metrics[name] for name in names}, title=title, x_label="step"))
    return section("Metrics", f'<div class="charts">{"".join(drawn)}</div>', anchor="metrics")


def _last_values(metrics: Metrics) -> str:
    if not metrics:
        return ""
    rows = []
    for name, points in metrics.items():
        values = [y for _, y in points if y == y]
        numbers = (
            points[0][1],
            points[-1][1],
            min(values, default=float("nan")),
            max(values, default=float("nan")),
        )
        cells = "".join(f'<td class="n">{text(compact(number))}</td>' for number in numbers)
        cells += f'<td class="n">{text(compact(points[-1][0]))}</td>'
        rows.append(f'<tr><th scope="row">{text(name)}</th>{cells}</tr>')
    heads = "".join(
        f'<th scope="col" class="n">{head}</th>' for head in ("First", "Last", "Lowest", "Highest", "At step")
    )
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Last values">'
        '<table class="plain"><thead><tr>'
        f'<th scope="col">Metric</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    return section("Last values", table, anchor="last")


def _status(status: Mapping[str, Any], metrics: Metrics) -> str:
    state = str(status.get("state", "unknown"))
    facts = {key: _plain(value) for key, value in status.items() if key not in ("state", "pid")}
    if metrics:
        facts["last logged step"] = compact(max(points[-1][0] for points in metrics.values()))
    return f'<p class="subtitle"><span class="badge {text(state)}">{text(state)}</span></p>{definitions(facts)}'


def _samples(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    last = max(row.get("step", 0) for row in rows)
    shown = [row for row in rows if row.get("step", 0) == last][:_MOST_SAMPLES]
    cards = "".join(f'<article class="sample"><dl>{_fields(row)}</dl></article>' for row in shown)
    lead = f"{len(shown)} of {len(rows)} sampled answers: those of step {last}. samples.jsonl has all."
    return section("Samples", cards, anchor="samples", lead=lead)


def _fields(row: Mapping[str, Any]) -> str:
    return "".join(
        f'<dt>{text(name)}</dt><dd dir="auto">{text(_plain(value))}</dd>'
        for name, value in row.items()
        if name != "step"
    )


def _skipped(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    per_file = Counter(str(row.get("file", "?")) for row in rows)
    counts = ", ".join(f"{count:,} in {file}" for file, count in per_file.items())
    cards = "".join(f'<article class="sample"><dl>{_fields(row)}</dl></article>' for row in rows[:_MOST_SKIPPED])
    more = f" The first {_MOST_SKIPPED} follow; skipped.jsonl has all." if len(rows) > _MOST_SKIPPED else ""
    return section("Skipped rows", cards, anchor="skipped", lead=f"Left out of this run: {counts}.{more}")


def _recipe(recipe: Mapping[str, Any], folder: Path) -> str:
    resolved = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)
    body = _folded("recipe.yaml", resolved)
    environment = folder / "environment.json"
    if environment.is_file():
        body += _folded(environment.name, environment.read_text(encoding="utf-8"))
    return section("Recipe and environment", body, anchor="recipe", lead="With these two, the run can be repeated.")


def _folded(name: str, content: str) -> str:
    return f"<details><summary>{text(name)}</summary><pre>{text(content)}</pre></details>"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
