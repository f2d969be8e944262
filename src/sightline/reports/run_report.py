"""The page of one run, made from its folder alone: how it stands, what it logged, what it answered.

Owns the order of the page: what was learned first, then what it said, then what watched over it. The folder may come
from anywhere: nothing in it is trusted.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sightline.journal import Journal, atomic_write
from sightline.reports.answers import rollout_section, sample_section
from sightline.reports.charts import Point
from sightline.reports.metric_charts import Metrics, metric_section
from sightline.reports.metric_words import shown
from sightline.reports.monitors import alarms, monitors
from sightline.reports.page import compact, definitions, navigation, page, section, text
from sightline.reports.rating import reward_model
from sightline.run_files import read_json

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
        "alarms": ("Alarms", alarms(journal.read_alarms())),
        "metrics": ("Metrics", metric_section(metrics)),
        "samples": ("Answers", sample_section(journal.read_samples(), folder)),
        "rollouts": ("Rollouts", rollout_section(journal.read_rollouts(), folder)),
        "watch": ("Monitors", monitors(journal.read_watched(), journal.read_alarms(), metrics)),
        "last": ("Last values", _last_values(metrics)),
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
        held_out = "held out: " if name.startswith("validation/") else ""
        rows.append(
            f'<tr><th scope="row">{text(held_out + shown(name).title)}<small>{text(name)}</small></th>{cells}</tr>'
        )
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
        facts["last logged update"] = compact(max(points[-1][0] for points in metrics.values()))
    return f'<p class="subtitle"><span class="badge {text(state)}">{text(state)}</span></p>{definitions(facts)}'


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
        body += _folded(environment.name, json.dumps(read_json(environment), ensure_ascii=False, indent=1))
    return section("Recipe and environment", body, anchor="recipe", lead="With these two, the run can be repeated.")


def _folded(name: str, content: str) -> str:
    return f"<details><summary>{text(name)}</summary><pre>{text(content)}</pre></details>"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
