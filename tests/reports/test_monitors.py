"""Each watched signal beside its bound, and the alarms in words."""

import pytest

from sightline.reports.monitors import monitors
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
    assert titles == ["held_out_fall", "boxes_per_object", "distinct", "length_growth"]
    for words in ("No alarm was raised.", "Alarm: above 2", "Alarm: below 0.15", "Alarm: above 50", "Alarm: 0.05 low"):
        assert words in page.text, words
    assert "validation/reward/mean" in page.text


def test_an_alarm_is_told_once_and_escaped():
    alarm = {"step": 20, "signal": "boxes_per_object", "since": 11, "sentence": f"boxes: sprayed {HOSTILE}"}
    page = monitors(WATCHED, [alarm, alarm | {"step": 21}], METRICS)
    assert Reader(page).text.count("boxes: sprayed") == 1
    assert "1 alarm raised." in Reader(page).text
    assert HOSTILE not in page


@pytest.mark.parametrize(("watched", "metrics"), [([], METRICS), (WATCHED, {})])
def test_a_run_that_watches_nothing_has_no_section(watched, metrics):
    assert monitors(watched, [], metrics) == ""
