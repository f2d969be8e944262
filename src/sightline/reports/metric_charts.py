"""The charts of a run's metrics: a few to a group, one unit to a chart, what matters most first."""

from collections.abc import Mapping, Sequence

from sightline.reports.charts import NUM_STYLES, Point, line_chart
from sightline.reports.metric_words import group_title, shown
from sightline.reports.page import section, text

Metrics = Mapping[str, Sequence[Point]]

_UNLIKE = 30.0
"""Metrics whose largest values differ by more than this share no axes."""
_FIRST = ("validation", "reward", "rollout", "curriculum")
"""Groups that come first where a run learns from rewards: then the loss says nothing."""


def metric_section(metrics: Metrics) -> str:
    """All charts, each group under its heading."""
    if not metrics:
        return section("Metrics", '<p class="empty">Nothing has been logged yet.</p>', anchor="metrics")
    parts = []
    for group, charts in chart_groups(metrics).items():
        drawn = "".join(_chart(group, names, metrics) for names in charts)
        parts.append(f'<div class="group"><h3>{text(group_title(group))}</h3><div class="charts">{drawn}</div></div>')
    return section("Metrics", "".join(parts), anchor="metrics")


def chart_groups(metrics: Metrics) -> dict[str, list[list[str]]]:
    """Group -> charts -> names of metrics; timing comes last, and rewards first where they are learned from."""
    groups: dict[str, list[str]] = {}
    for name in metrics:
        groups.setdefault(name.partition("/")[0], []).append(name)
    first = _FIRST if "rollout" in groups else ()
    ordered = sorted(groups, key=lambda group: (group == "time", first.index(group) if group in first else len(first)))
    return {group: _by_unit(groups[group], metrics) for group in ordered}


def _by_unit(names: Sequence[str], metrics: Metrics) -> list[list[str]]:
    """The names in charts of one unit each, in which every line can be seen."""
    units: dict[str, list[str]] = {}
    for name in names:
        units.setdefault(shown(name).unit, []).append(name)
    return [chart for unit in units.values() for chart in _of_like_size(unit, metrics)]


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


def _chart(group: str, names: Sequence[str], metrics: Metrics) -> str:
    """One chart; a line alone gives its title, several give their unit."""
    titles = _titles(names)
    unit = shown(names[0]).unit
    title = next(iter(titles.values())) if len(names) == 1 else unit if unit != group else group_title(group)
    return line_chart({titles[name]: metrics[name] for name in names}, title=title, x_label="update")


def _titles(names: Sequence[str]) -> dict[str, str]:
    """A title for each name; two that read alike keep their own names beside."""
    titles = {name: shown(name).title for name in names}
    words = list(titles.values())
    return {name: title if words.count(title) == 1 else f"{title} ({name})" for name, title in titles.items()}
