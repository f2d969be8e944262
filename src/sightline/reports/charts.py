"""Line charts and interval charts as inline SVG, from plain numbers.

Owns lines, marks and legends. A series is told apart by colour, dash and marker shape together. Colours come
from the style of the page (classes s0 to s7), so a chart follows light and dark. Knows nothing of runs or of
what is drawn.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from sightline.evaluation.statistics import Interval
from sightline.reports.axes import Axis, axis, log_axis
from sightline.reports.page import compact, text

Point = tuple[float, float]
Ranged = tuple[float, float, float, float]
"""x, y, and the ends of an interval around y."""

NUM_STYLES = 8
_DASHES = ("", "7 4", "14 3", "2 4", "9 3 2 3", "5 3", "12 3 2 3 2 3", "1 4")
_WIDTH, _HEIGHT = 360.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 12.0, 10.0, 42.0
_LARGEST = 1e30
_MOST_POINTS = 400
_SMOOTH_FROM = 60
_MARKED_UP_TO = 24
_LANE = 42.0
_MOST_ROOM = 4.0


def line_chart(
    series: Mapping[str, Sequence[Point]] | Mapping[str, Sequence[Ranged]],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    styles: Mapping[str, int] | None = None,
    bounds: Mapping[str, float] | None = None,
    log_x: bool = False,
    note: str = "",
) -> str:
    """One chart with a line per series; a value that is not finite leaves a gap.

    Many values that scatter are drawn faint under their running mean. `styles` fixes colour and marker by
    name, so that a series looks the same in every chart of a page. `bounds` are named levels, drawn across the chart
    where that leaves the series legible. Points may carry an interval, drawn as a bar. With `log_x` equal ratios are
    equally far apart, and all x are above 0. `note` stands below.
    """
    drawable = {name: [_clean(point[:2]) for point in points] for name, points in series.items()}
    ranged = {name: [point for point in points if len(point) == 4] for name, points in series.items()}
    finite = [point for points in drawable.values() for point in points if math.isfinite(point[1])]
    if not finite:
        return _figure(title, f'<p class="empty">{text(title)}: no finite value yet.</p>', "")
    chosen = {name: (styles or {}).get(name, i) % NUM_STYLES for i, name in enumerate(series)}
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    drawn = _legible(bounds or {}, min(ys), max(ys))
    ys += [end for points in ranged.values() for point in points for end in point[2:]]
    low, high = min([*ys, *drawn.values()]), max([*ys, *drawn.values()])
    pad = (high - low) * 0.06
    whole = all(x == int(x) for x in xs)
    left, right = _LEFT, _WIDTH - _RIGHT
    x_axis = axis(min(xs), max(xs), start=left, end=right, whole=whole)
    if log_x:
        x_axis = log_axis(min(xs), max(xs), start=left, end=right)
    y_axis = axis(low - pad, high + pad, start=_HEIGHT - _BOTTOM, end=_TOP)
    lines = "".join(_bars(points, x_axis, y_axis, chosen[name]) for name, points in ranged.items())
    lines += "".join(_line(points, x_axis, y_axis, chosen[name]) for name, points in drawable.items())
    lines += "".join(_bound(name, y_axis.at(value)) for name, value in drawn.items())
    summary = "; ".join(_summary(name, points, x_label) for name, points in drawable.items())
    drawing = _svg(_HEIGHT, title, summary, _frame(x_axis, y_axis, x_label, y_label) + lines)
    legend = "" if list(series) == [title] else _legend(chosen)
    remark = f'<p class="remark">{text(note)}</p>' if note else ""
    return _figure(title, drawing, legend + _remarks(drawable) + remark)


def interval_chart(
    rows: Mapping[str, Interval],
    *,
    title: str,
    x_label: str = "",
    form: Callable[[float], str] = compact,
    styles: Mapping[str, int] | None = None,
    marks: Mapping[str, float] | None = None,
) -> str:
    """One lane per row: its estimate as a marker, its interval as a whisker, both as text.

    `marks` are named values drawn as vertical lines across all lanes.
    """
    if not rows:
        return _figure(title, '<p class="empty">Nothing was measured.</p>', "")
    values = [value for row in rows.values() for value in (row.low, row.estimate, row.high)]
    values += (marks or {}).values()
    pad = (max(values) - min(values)) * 0.05
    top = 18.0 if marks else 6.0
    height = top + _LANE * len(rows) + (38 if x_label else 22)
    x_axis = axis(min(values) - pad, max(values) + pad, start=10, end=_WIDTH - 14)
    floor = top + _LANE * len(rows)
    parts = [_vertical(x_axis, top, floor, form)]
    parts += [_mark(name, x_axis.at(value), top, floor) for name, value in (marks or {}).items()]
    for i, (name, row) in enumerate(rows.items()):
        parts.append(_lane(name, row, x_axis, top + _LANE * i, (styles or {}).get(name, i) % NUM_STYLES, form))
    if x_label:
        parts.append(_words("axis", _WIDTH / 2, height - 4, x_label))
    summary = "; ".join(f"{name}: {interval_text(row, form)}" for name, row in rows.items())
    return _figure(title, _svg(height, title, summary, "".join(parts)), "")


def interval_text(row: Interval, form: Callable[[float], str]) -> str:
    """An interval in words: "9.3%, interval 8.4% to 10.2%"."""
    return f"{form(row.estimate)}, interval {form(row.low)} to {form(row.high)}"


def swatch(style: int) -> str:
    """The marker of a style as a small inline picture; the name beside it is the text."""
    line = f'<line x1="0" y1="8" x2="28" y2="8" class="line" stroke-dasharray="{_DASHES[style % NUM_STYLES]}"/>'
    return (
        f'<svg class="swatch s{style % NUM_STYLES}" viewBox="0 0 28 16" aria-hidden="true">'
        f"{line}{_marker(14, 8, style)}</svg>"
    )


def _figure(title: str, drawing: str, below: str) -> str:
    return f'<figure class="chart"><figcaption>{text(title)}</figcaption>{drawing}{below}</figure>'


def _svg(height: float, title: str, summary: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{text(title)}">'
        f"<desc>{text(summary)}</desc>{body}</svg>"
    )


def _clean(point: Point) -> Point:
    x, y = point
    return (float(x), float(y) if math.isfinite(y) and abs(y) < _LARGEST else math.nan)


def _frame(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> str:
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [_rule("base", (_LEFT, right), (floor, floor))]
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts += [
            _rule("grid", (_LEFT, right), (y, y)),
            _words("tick", _LEFT - 7, y + 4, y_axis.label(tick), "end"),
        ]
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        parts += [
            _rule("base", (x, x), (floor, floor + 4)),
            _words("tick", x, floor + 17, x_axis.label(tick)),
        ]
    parts.append(_words("axis", (_LEFT + right) / 2, _HEIGHT - 5, x_label))
    if y_label:
        turn = f"translate(11 {(_TOP + floor) / 2:.1f}) rotate(-90)"
        parts.append(f'<g transform="{turn}">{_words("axis", 0, 0, y_label)}</g>')
    return "".join(parts)


def _rule(kind: str, xs: Point, ys: Point) -> str:
    return f'<line class="{kind}" x1="{xs[0]:.1f}" x2="{xs[1]:.1f}" y1="{ys[0]:.1f}" y2="{ys[1]:.1f}"/>'


def _words(kind: str, x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'


def _line(points: Sequence[Point], x_axis: Axis, y_axis: Axis, style: int) -> str:
    runs, noisy = _runs(points), _is_noisy(points)
    num_finite = sum(len(run) for run in runs)
    parts = []
    for run in runs:
        place = _placed(run, x_axis, y_axis)
        parts.append(_path(place, "line faint" if noisy else "line", "" if noisy else _DASHES[style]))
        if noisy:
            mean = _running_mean(run, _window(num_finite))
            parts.append(_path(_placed(mean, x_axis, y_axis), "line", _DASHES[style]))
        marked = place if num_finite <= _MARKED_UP_TO or len(run) == 1 else []
        parts += [_marker(x, y, style) for x, y in marked]
    return f'<g class="s{style}">{"".join(parts)}</g>'


def _bars(points: Sequence[Ranged], x_axis: Axis, y_axis: Axis, style: int) -> str:
    parts = []
    for at, _, low, high in points:
        x, ends = x_axis.at(at), (y_axis.at(low), y_axis.at(high))
        parts += [_rule("bar", (x, x), ends), *(_rule("bar", (x - 3, x + 3), (y, y)) for y in ends)]
    return f'<g class="s{style}">{"".join(parts)}</g>'


def _is_noisy(points: Sequence[Point]) -> bool:
    """Whether there are many values and they scatter around their running mean."""
    run = [point for point in points if math.isfinite(point[1])]
    if len(run) <= _SMOOTH_FROM:
        return False
    mean = _running_mean(run, _window(len(run)))
    scatter = sum(abs(y - smooth) for (_, y), (_, smooth) in zip(run, mean, strict=True)) / len(run)
    values = [y for _, y in run]
    return scatter > 0.01 * (max(values) - min(values))


def _window(num_points: int) -> int:
    return max(7, num_points // 10)


def _placed(run: Sequence[Point], x_axis: Axis, y_axis: Axis) -> list[Point]:
    return [(x_axis.at(x), y_axis.at(y)) for x, y in _thinned(run)]


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """The points cut where a value is missing."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _thinned(run: Sequence[Point]) -> list[Point]:
    """At most some hundred points that keep the lowest and highest of each stretch."""
    if len(run) <= _MOST_POINTS:
        return list(run)
    size = math.ceil(len(run) / (_MOST_POINTS / 2))
    kept: list[Point] = []
    for start in range(0, len(run), size):
        stretch = run[start : start + size]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(ends)
    return kept


def _running_mean(run: Sequence[Point], window: int) -> list[Point]:
    """The mean over a window centred on each point, cut off at the ends."""
    sums = [0.0]
    for _, y in run:
        sums.append(sums[-1] + y)
    out = []
    for i, (x, _) in enumerate(run):
        start, end = max(0, i - window // 2), min(len(run), i + window // 2 + 1)
        out.append((x, (sums[end] - sums[start]) / (end - start)))
    return out


def _path(place: Sequence[Point], kind: str, dash: str) -> str:
    commands = "L".join(f"{x:.1f} {y:.1f}" for x, y in place)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path class="{kind}" d="M{commands}"{dashes}/>'


def _marker(x: float, y: float, style: int) -> str:
    """A shape of its own for every style: circle, square, diamond, triangle, then their hollow forms."""
    shapes = {
        0: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>',
        1: f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>',
        2: f'<path d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z"/>',
        3: f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 10h-11z"/>',
    }
    hollow = " hollow" if style % NUM_STYLES >= 4 else ""
    return f'<g class="marker{hollow}">{shapes[style % 4]}</g>'


def _legible(bounds: Mapping[str, float], low: float, high: float) -> dict[str, float]:
    """The bounds that can be drawn without pressing the values between `low` and `high` flat."""
    room = _MOST_ROOM * max(high - low, 0.05 * max(abs(low), abs(high)), 1e-9)
    return {name: value for name, value in bounds.items() if low - room <= value <= high + room}


def _bound(name: str, y: float) -> str:
    return _rule("mark", (_LEFT, _WIDTH - _RIGHT), (y, y)) + _words("tick", _WIDTH - _RIGHT - 4, y - 4, name, "end")


def _vertical(x_axis: Axis, top: float, floor: float, form: Callable[[float], str]) -> str:
    parts = []
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        anchor = "start" if x < 20 else "end" if x > _WIDTH - 24 else "middle"
        parts += [_rule("grid", (x, x), (top, floor)), _words("tick", x, floor + 15, form(tick), anchor)]
    return "".join(parts)


def _mark(name: str, x: float, top: float, floor: float) -> str:
    anchor = "start" if x < _WIDTH / 3 else "end" if x > _WIDTH * 2 / 3 else "middle"
    return _rule("mark", (x, x), (top - 2, floor)) + _words("tick", x, top - 6, name, anchor)


def _lane(name: str, row: Interval, x_axis: Axis, top: float, style: int, form: Callable[[float], str]) -> str:
    y, low, high = top + 29, x_axis.at(row.low), x_axis.at(row.high)
    value = f"{form(row.estimate)}  [{form(row.low)}, {form(row.high)}]"
    words = _words("name", 10, top + 15, name, "start") + _words("value", _WIDTH - 14, top + 15, value, "end")
    ends = "".join(_rule("whisker", (x, x), (y - 5, y + 5)) for x in (low, high))
    whisker = _rule("whisker", (low, high), (y, y)) + ends
    return f'<g class="s{style}">{words}{whisker}{_marker(x_axis.at(row.estimate), y, style)}</g>'


def _legend(chosen: Mapping[str, int]) -> str:
    entries = "".join(f"<li>{swatch(style)}<span>{text(name)}</span></li>" for name, style in chosen.items())
    return f'<ul class="legend">{entries}</ul>'


def _remarks(series: Mapping[str, Sequence[Point]]) -> str:
    remarks = []
    if any(_is_noisy(points) for points in series.values()):
        remarks.append("Faint: every value. Bold: the running mean.")
    num_missing = sum(not math.isfinite(y) for points in series.values() for _, y in points)
    if num_missing:
        remarks.append(f"Gaps: {num_missing} value{'s' * (num_missing != 1)} not finite.")
    return f'<p class="remark">{text(" ".join(remarks))}</p>' if remarks else ""


def _summary(name: str, points: Sequence[Point], x_label: str) -> str:
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return f"{name}: no finite value"
    (first_x, first), (last_x, last) = finite[0], finite[-1]
    values = [y for _, y in finite]
    return (
        f"{name}: {compact(first)} at {x_label} {compact(first_x)}, "
        f"{compact(last)} at {x_label} {compact(last_x)}, "
        f"lowest {compact(min(values))}, highest {compact(max(values))}"
    )
