"""What a run's monitors looked at, each beside its bound, and the alarms that they raised.

Reads what the run wrote into its folder. Knows neither the rules nor what a signal means.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.reports.charts import Point, line_chart
from sightline.reports.metric_words import shown
from sightline.reports.page import bullets, compact, section

FIRST = 5
"""Values whose mean an "above_first" bound is a multiple of."""


def monitors(
    watched: Sequence[Mapping[str, Any]],
    alarms: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Sequence[Point]],
) -> str:
    """The section, those that raised an alarm drawn open, the others folded; empty for a run without monitors."""
    raised = {str(row["signal"]) for row in alarms}
    known = [row for row in watched if row["metric"] in metrics]
    if not known:
        return ""
    loud = "".join(_chart(row, metrics) for row in known if row["signal"] in raised)
    quiet = [row for row in known if row["signal"] not in raised]
    body = f'<div class="charts">{loud}</div>' if loud else ""
    if quiet:
        drawn = "".join(_chart(row, metrics) for row in quiet)
        body += f'<details><summary>{len(quiet)} without an alarm</summary><div class="charts">{drawn}</div></details>'
    lead = "A signal that stays beyond its bound warns or stops the run (monitors in the recipe). "
    lead += f"{len(known)} were looked at, {len(raised) or 'none'} raised an alarm."
    return section("Monitors", body, anchor="watch", lead=lead)


def alarms(rows: Sequence[Mapping[str, Any]]) -> str:
    """The alarms, each once, as a section of its own; empty without any."""
    found = {(str(row["signal"]), str(row["since"])): str(row["sentence"]) for row in rows}
    return section("Alarms", bullets(list(found.values())), anchor="alarms") if found else ""


def _chart(row: Mapping[str, Any], metrics: Mapping[str, Sequence[Point]]) -> str:
    names: list[str] = [row["metric"]]
    names += [row["beside"]] if row.get("beside") in metrics else []
    level, words = _bound(row, metrics[row["metric"]])
    return line_chart(
        {shown(name).title: metrics[name] for name in names},
        title=str(row["signal"]).replace("_", " "),
        x_label="update",
        bounds={"alarm": level} if level is not None else {},
        note=f"Alarm: {words}.",
    )


def _bound(row: Mapping[str, Any], points: Sequence[Point]) -> tuple[float | None, str]:
    """The level to draw, and the rule in words."""
    if "above_first" in row:
        first = [y for _, y in points[:FIRST]]
        level = row["above_first"] * statistics.fmean(first)
        return level, f"above {compact(level)}, {row['above_first']:g} times the first rollouts"
    for side in ("above", "below"):
        if side in row:
            return row[side], f"{side} {row[side]:g}"
    return None, str(row["rule"])
