"""Signals of a run that goes wrong: each trips on what it is for, after its patience, and honest runs trip none."""

import json
import math

import numpy as np
import pytest

from sightline.train.monitors import CURES, Bounds, Watch, watched

HONEST = {
    "rollout/problems": 0.1,
    "rollout/without_signal": 0.3,
    "rollout/distinct": 0.8,
    "rollout/repetition": 0.05,
    "rollout/length": 30.0,
    "rollout/boxes_per_object": 1.0,
    "kl/reference": 0.02,
    "optim/grad_norm": 1.0,
    "reward/mean": 1.5,
}
BAD = {
    "problems": {"rollout/problems": 0.7},
    "without_signal": {"rollout/without_signal": 1.0},
    "distinct": {"rollout/distinct": 0.13},
    "repetition": {"rollout/repetition": 0.8},
    "length_growth": {"rollout/length": 100.0},
    "boxes_per_object": {"rollout/boxes_per_object": 5.0},
    "kl": {"kl/reference": 3.0},
    "grad_norm_spike": {"optim/grad_norm": 500.0},
    "reward_collapse": {"reward/mean": 0.1},
}


def honest(step: int) -> dict[str, float]:
    """A learning run: rewards rise with noise."""
    rng = np.random.default_rng(step)
    found = {name: value * float(rng.uniform(0.8, 1.2)) for name, value in HONEST.items()}
    return found | {"reward/mean": 1.5 + math.tanh(step / 50) + float(rng.normal(0, 0.1))}


def watch() -> Watch:
    return Watch(bounds=Bounds(patience=5, kl=1.0))


def test_an_honest_run_raises_no_alarm():
    watched = watch()
    assert [alarm for step in range(300) for alarm in watched.look(step, honest(step))] == []


@pytest.mark.parametrize("signal", BAD)
def test_each_signal_trips_after_its_patience_and_says_since_when(signal: str):
    watched = watch()
    for step in range(60):
        assert watched.look(step, honest(step)) == []
    raised = [alarm for step in range(60, 80) for alarm in watched.look(step, honest(step) | BAD[signal])]
    first = raised[0]
    assert {alarm.signal for alarm in raised} == {signal}
    assert 60 <= first.since < 75
    assert f"since update {first.since}" in first.sentence
    assert CURES[signal] in first.sentence


def test_a_signal_that_recovers_in_time_raises_nothing():
    watched = watch()
    for step in range(100):
        bad = BAD["boxes_per_object"] if step % 5 < 4 else {}
        assert watched.look(step, honest(step) | bad) == []


def test_a_reward_that_rises_while_the_held_out_measure_falls_is_hacking():
    watched = watch()
    raised = []
    for step in range(12):
        facts = {"validation/reward/mean": 1.0 + 0.1 * step, "validation/held_out": 0.8 - 0.03 * max(0, step - 4)}
        raised += watched.look(step, facts)
    assert raised[0].signal == "held_out_fall"
    both_rise = watch()
    for step in range(12):
        facts = {"validation/reward/mean": 1.0 + 0.1 * step, "validation/held_out": 0.5 + 0.02 * step}
        assert both_rise.look(step, facts) == []


def test_what_is_switched_off_says_nothing():
    off = Watch(bounds=Bounds(patience=1, boxes_per_object=None))
    assert [a for step in range(20) for a in off.look(step, {"rollout/boxes_per_object": 50.0})] == []


def test_a_watch_goes_on_from_its_state():
    first, second = watch(), watch()
    for step in range(40):
        first.look(step, honest(step) | (BAD["length_growth"] if step > 36 else {}))
    second.restore(json.loads(json.dumps(first.state())))
    for step in range(40, 60):
        bad = honest(step) | BAD["length_growth"]
        assert first.look(step, bad) == second.look(step, bad)
    assert first.state() == second.state()


def test_every_signal_is_listed_for_the_report_unless_it_is_off():
    assert {row["signal"] for row in watched(Bounds(kl=0.5))} == set(CURES)
    listed = {row["signal"]: row for row in watched(Bounds(reward_collapse=None, held_out_fall=None))}
    assert set(CURES) - set(listed) == {"kl", "reward_collapse", "held_out_fall"}
    assert listed["boxes_per_object"] == {
        "signal": "boxes_per_object",
        "metric": "rollout/boxes_per_object",
        "above": 2.0,
    }


def test_a_rule_that_tightens_is_no_collapse_of_the_reward():
    def look(rules: list[float]) -> list[str]:
        looking, found = watch(), []
        for step, rule in enumerate(rules):
            fallen = 1.2 if step >= 40 else 2.4
            metrics = {"reward/mean": fallen + 0.01 * (step % 3), "curriculum/boxes/phase": rule}
            found += [alarm.signal for alarm in looking.look(step, metrics)]
        return found

    assert "reward_collapse" in look([1.0] * 80)
    assert look([1.0] * 40 + [2.0] * 40) == []
