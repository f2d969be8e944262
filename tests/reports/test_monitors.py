"""Each watched signal beside its bound, and the alarms in words."""

import pytest

from sightline.reports.monitors import alarms, monitors
from tests.reports.invented import HOSTILE, Reader

WATCHED = [
    {
        "signal": "held_out_fall",
        "metric": "validation/held_out",
        "beside": "validation/reward/mean",
        "rule": "0.05 low",
    },
    {"signal": "boxes_per_object", "metric": "rollout/boxes_per_object", "above": 2.0},
    {"signal": "distinct", "metric": "rollout/distinct", "below": 0.15},
    {"signal": "length_growth", "metric": "rollout/length", "above_first": 2.5},
    {"signal": "kl", "metric": "kl/reference", "above": 1.0},
]
METRICS = {
    "validation/held_out": [(10.0, 0.5), (20.0, 0.4)],
    "validation/reward/mean": [(10.0, 1.0), (20.0, 1.4)],
    "rollout/boxes_per_object": [(float(i), 1.0 + i / 10) for i in range(1, 21)],
    "rollout/distinct": [(float(i), 0.9) for i in range(1, 21)],
    "rollout/length": [(float(i), 20.0 + max(0, i - 5)) for i in range(1, 21)],
}


def test_every_signal_that_was_logged_has_its_chart_with_its_rule():
    page = Reader(monitors(WATCHED, [], METRICS))
    titles = [chart["aria-label"] for chart in page.having("svg", role="img")]
    assert titles == ["held out fall", "boxes per object", "distinct", "length growth"]
    for words in (
        "4 were looked at, none raised an alarm.",
        "Alarm: above 2",
        "Alarm: below 0.15",
        "Alarm: above 50",
        "Alarm: 0.05 low",
    ):
        assert words in page.text, words
    assert "mean reward" in page.text


def test_an_alarm_is_told_once_and_escaped_and_its_signal_is_drawn_open():
    alarm = {"step": 20, "signal": "boxes_per_object", "since": 11, "sentence": f"boxes: sprayed {HOSTILE}"}
    page = alarms([alarm, alarm | {"step": 21}])
    assert Reader(page).text.count("boxes: sprayed") == 1
    assert HOSTILE not in page
    drawn = monitors(WATCHED, [alarm], METRICS)
    assert drawn.index("boxes per object") < drawn.index("<details>") < drawn.index("length growth")
    assert "3 without an alarm" in drawn
    assert alarms([]) == ""


@pytest.mark.parametrize(("watched", "metrics"), [([], METRICS), (WATCHED, {})])
def test_a_run_that_watches_nothing_has_no_section(watched, metrics):
    assert monitors(watched, [], metrics) == ""
