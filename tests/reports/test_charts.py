"""Charts: readable axes, gaps, marks that do not rest on colour, and escaping."""

import math
import re
from itertools import pairwise

import pytest

from sightline.evaluation.statistics import Interval
from sightline.reports.axes import axis, log_axis
from sightline.reports.charts import interval_chart, interval_text, line_chart, swatch
from sightline.reports.page import percent
from tests.reports.invented import HOSTILE, Reader, around, assert_self_contained


def paths(chart: str) -> list[str]:
    return [
        attributes["d"] or ""
        for attributes in Reader(chart).having("path")
        if "line" in (attributes.get("class") or "")
    ]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.1, 0.13), (-2, 0.4), (0, 1e-5), (1, 1e9), (5, 5), (0, 0), (-1e20, 1e20), (0.24, 0.93)],
)
def test_ticks_are_few_round_within_the_range_and_differ(low: float, high: float):
    made = axis(low, high, start=0, end=100)
    assert 2 <= len(made.ticks) <= 9
    assert all(made.low - 1e-9 * abs(made.low) <= tick <= made.high + 1e-9 * abs(made.high) for tick in made.ticks)
    labels = [made.label(tick) for tick in made.ticks]
    assert len(set(labels)) == len(labels)
    assert made.at(made.low) == 0
    assert made.at(made.high) == 100


def test_steps_have_whole_ticks():
    assert axis(1, 4, start=0, end=1, whole=True).ticks == (1, 2, 3, 4)
    assert axis(0, 12, start=0, end=1, whole=True).step in (1, 2, 5)


def test_labels_have_the_digits_of_their_step():
    made = axis(0, 1.2, start=0, end=1)
    assert made.step == 0.2
    assert [made.label(tick) for tick in made.ticks][:3] == ["0.0", "0.2", "0.4"]
    assert axis(0, 1.25, start=0, end=1, num_ticks=4).label(0.25) == "0.25"


def test_a_value_that_is_not_finite_leaves_a_gap_and_is_counted():
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 2.0), (4.0, math.inf), (5.0, 1.0), (6.0, 0.0)]
    chart = line_chart({"loss": points}, title="t", x_label="step")
    assert len(paths(chart)) == 3
    assert "Gaps: 2 values not finite." in Reader(chart).text
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_chart_without_a_finite_value_says_so():
    assert "no finite value yet" in line_chart({"loss": [(0.0, math.nan)]}, title="loss", x_label="step")
    assert "no finite value yet" in line_chart({}, title="loss", x_label="step")


def test_a_bound_is_drawn_where_the_values_stay_legible():
    points = [(0.0, 1.0), (10.0, 2.0)]
    near = line_chart({"a": points}, title="t", x_label="step", bounds={"alarm": 3.0}, note="Alarm: above 3.")
    assert 'class="mark"' in near
    assert "Alarm: above 3." in Reader(near).text
    far = line_chart({"a": points}, title="t", x_label="step", bounds={"alarm": 300.0}, note="Alarm: above 300.")
    assert 'class="mark"' not in far
    assert "Alarm: above 300." in Reader(far).text
    flat = line_chart({"a": [(0.0, 0.0), (1.0, 0.0)]}, title="t", x_label="step", bounds={"alarm": 0.5})
    assert 'class="line"' in flat


def test_scattered_values_are_drawn_faint_under_their_running_mean():
    noisy = line_chart({"a": [(float(i), float(i % 2)) for i in range(200)]}, title="t", x_label="step")
    smooth = line_chart({"a": [(float(i), float(i)) for i in range(200)]}, title="t", x_label="step")
    assert 'class="line faint"' in noisy
    assert "running mean" in noisy
    assert 'class="line faint"' not in smooth
    assert "running mean" not in smooth


def test_a_long_series_is_thinned_but_keeps_its_extremes():
    points = [(float(i), 5.0) for i in range(50_000)]
    points[31_234] = (31_234.0, 9.0)
    chart = line_chart({"a": points}, title="t", x_label="step")
    assert len(chart) < 40_000
    heights = [float(pair.split()[1]) for path in paths(chart) for pair in path.removeprefix("M").split("L")]
    assert max(heights) - min(heights) > 100


def test_one_point_is_drawn_as_a_marker():
    assert 'class="marker"' in line_chart({"a": [(3.0, 0.5)]}, title="t", x_label="step")


def test_series_differ_by_dash_and_shape_and_not_by_colour_alone():
    dashes = [re.findall(r'stroke-dasharray="([^"]*)"', swatch(style)) for style in range(8)]
    shapes = [re.sub(r'class="swatch s\d"', "", swatch(style)) for style in range(8)]
    assert len(set(map(str, dashes))) == 8
    assert len(set(shapes)) == 8


def test_a_fixed_style_follows_the_name():
    chart = line_chart({"dpo": [(0.0, 1.0), (1.0, 2.0)]}, title="t", x_label="step", styles={"dpo": 2})
    assert '<g class="s2">' in chart


def test_a_chart_describes_itself_in_words():
    reader = Reader(line_chart({"loss": [(0.0, 0.7), (10.0, 0.2)]}, title="Training", x_label="step"))
    assert reader.having("svg", role="img")[0]["aria-label"] == "Training"
    assert "loss: 0.7000 at step 0, 0.2000 at step 10, lowest 0.2000, highest 0.7000" in reader.text


def test_interval_lanes_show_numbers_and_whiskers():
    rows = {"Base": around(0.24), "DPO": around(0.09)}
    chart = interval_chart(rows, title="Hallucination", form=percent, marks={"Ceiling": 0.03})
    assert "24.0%  [23.0%, 25.0%]" in chart
    assert "Ceiling" in chart
    assert chart.count('class="whisker"') == 6
    assert interval_text(rows["DPO"], percent) == "9.0%, interval 8.0% to 10.0%"


def test_interval_ends_lie_on_either_side_of_their_marker():
    row = Interval(estimate=0.5, low=0.2, high=0.6)
    whiskers = Reader(interval_chart({"a": row}, title="t")).having("line", class_="whisker")
    (left, right) = (float(whiskers[0]["x1"] or 0), float(whiskers[0]["x2"] or 0))
    circle = float(Reader(interval_chart({"a": row}, title="t")).having("circle")[0]["cx"] or 0)
    assert left < circle < right
    assert (circle - left) / (right - left) == pytest.approx(0.75, abs=0.01)


def test_equal_and_empty_intervals_are_drawn():
    same = Interval(estimate=0.5, low=0.5, high=0.5)
    assert "whisker" in interval_chart({"a": same}, title="t")
    assert "Nothing was measured." in interval_chart({}, title="t")


def test_hostile_names_are_inert():
    chart = line_chart({HOSTILE: [(0.0, 1.0), (1.0, 2.0)]}, title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE)
    assert_self_contained(
        chart + interval_chart({HOSTILE: around(1)}, title=HOSTILE, x_label=HOSTILE, marks={HOSTILE: 1})
    )


def test_lanes_do_not_touch():
    chart = interval_chart({name: around(0.5) for name in "abcd"}, title="t")
    heights = [float(circle["y"] or 0) for circle in Reader(chart).having("text", class_="name")]
    assert all(after - before > 30 for before, after in pairwise(heights))


def test_ticks_of_a_nearly_constant_series_differ():
    flat = axis(1.0, 1.0000002, start=200, end=10)
    labels = [flat.label(tick) for tick in flat.ticks]
    assert len(set(labels)) == len(labels) >= 2


def test_a_logarithmic_axis_has_strengths_for_ticks_and_equal_ratios():
    strengths = log_axis(0.01, 1.0, start=0, end=200)
    assert [strengths.label(tick) for tick in strengths.ticks] == ["0.01", "0.1", "1"]
    assert [round(strengths.at(tick)) for tick in strengths.ticks] == [0, 100, 200]
    narrow = log_axis(0.02, 0.2, start=0, end=100)
    assert [narrow.label(tick) for tick in narrow.ticks] == ["0.02", "0.05", "0.1", "0.2"]
    with pytest.raises(ValueError, match="cannot show 0"):
        log_axis(0.0, 1.0, start=0, end=1)


def test_points_with_intervals_have_bars_and_room_for_them():
    html = line_chart({"a": [(0.1, 0.5, 0.2, 0.9), (1.0, 0.6, 0.3, 1.1)]}, title="t", x_label="strength", log_x=True)
    assert html.count('class="bar"') == 6
    assert ">1.0<" in html  # the y axis reaches over the bars
    assert 'class="bar"' not in line_chart({"a": [(0.1, 0.5), (1.0, 0.6)]}, title="t", x_label="x")
