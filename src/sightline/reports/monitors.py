"""What a run's monitors looked at, each beside its bound, and the alarms that they raised.

Reads what the run wrote into its folder. Knows neither the rules nor what a signal means.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.reports.charts import Point, line_chart
from sightline.reports.page import bullets, compact, section

FIRST = 5
"""Values whose mean an "above_first" bound is a multiple of."""


def monitors(
    watched: Sequence[Mapping[str, Any]],
    alarms: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Sequence[Point]],
) -> str:
    """The section; empty for a run without monitors."""
    charts = [_chart(row, metrics) for row in watched if row["metric"] in metrics]
    if not charts:
        return ""
    found = {(row["signal"], row["since"]): str(row["sentence"]) for row in alarms}
    said = bullets(list(found.values())) if found else ""
    lead = (
        f"{len(found)} alarm{'s' * (len(found) != 1)} raised." if found else "No alarm was raised."
    ) + " A signal that stays beyond its bound warns or stops the run (monitors in the recipe)."
    return section("Monitors", f'{said}<div class="charts">{"".join(charts)}</div>', anchor="watch", lead=lead)


def _chart(row: Mapping[str, Any], metrics: Mapping[str, Sequence[Point]]) -> str:
    names: list[str] = [row["metric"]]
    names += [row["beside"]] if row.get("beside") in metrics else []
    level, words = _bound(row, metrics[row["metric"]])
    return line_chart(
        {name: metrics[name] for name in names},
        title=str(row["signal"]),
        x_label="step",
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
