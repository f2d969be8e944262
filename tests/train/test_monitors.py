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
    "kl/start": 0.02,
    "policy/chosen_shift": -0.02,
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
    "kl": {"kl/start": 3.0},
    "displacement": {"policy/chosen_shift": -0.8},
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


def evaluated(looking: Watch, rows: list[dict[str, float]], *, between: int = 5) -> list[str]:
    """Signals of a run that is evaluated before training and then after every few updates, in the order of alarms."""
    raised = looking.look(0, rows[0])
    for number, row in enumerate(rows[1:]):
        trained = {name.removeprefix("training/"): v for name, v in row.items() if name.startswith("training/")}
        measured = {name: value for name, value in row.items() if name.startswith("validation/")}
        for update in range(between):
            last = update == between - 1
            raised += looking.look(number * between + update + 1, trained | (measured if last else {}))
    return [alarm.signal for alarm in raised]


def preferences(validation: list[float], training: list[float], accuracy: float = 0.8) -> list[dict[str, float]]:
    """Losses at evaluations, training accuracy rising to 1 and that of the validation pairs staying."""
    first = {"validation/loss/total": validation[0], "validation/reward/accuracy": 0.5}
    rows = [
        {
            "validation/loss/total": held,
            "validation/reward/accuracy": accuracy,
            "training/loss/total": loss,
            "training/reward/accuracy": min(1.0, 0.5 + 0.1 * number),
        }
        for number, (held, loss) in enumerate(zip(validation[1:], training, strict=True))
    ]
    return [first, *rows]


FALLING = [0.69, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]


def test_a_validation_loss_that_rises_while_training_goes_on_is_overfitting():
    assert "overfit" in evaluated(watch(), preferences([0.69, 0.68, 0.67, 0.7, 0.75, 0.8, 0.9, 1.0, 1.1], FALLING))
    assert evaluated(watch(), preferences([0.69, 0.68, 0.66, 0.64, 0.63, 0.62, 0.61, 0.61, 0.61], FALLING)) == []
    both_rise = [0.7 + 0.05 * number for number in range(8)]
    assert "overfit" not in evaluated(watch(), preferences([0.69, *both_rise], both_rise))


def test_the_first_evaluation_that_is_worse_may_be_chance():
    once = preferences([0.69, 0.6, 0.8, 0.59, 0.8, 0.58, 0.8, 0.57, 0.57], FALLING)
    assert "overfit" not in evaluated(watch(), once)


def test_pairs_that_are_ranked_right_once_trained_on_and_by_chance_else_are_learned_by_heart():
    level = [0.69] * 9
    heart = preferences(level, FALLING, accuracy=0.5)
    many = Watch(bounds=Bounds(), validation_rows=400)
    assert "accuracy_gap" in evaluated(many, heart)
    few = Watch(bounds=Bounds(), validation_rows=4)
    assert evaluated(few, heart) == [], "four pairs show nothing"
    learned = preferences(level, FALLING, accuracy=0.8)
    assert evaluated(Watch(bounds=Bounds(), validation_rows=400), learned) == []


@pytest.mark.parametrize(("when_new", "fires"), [(0.5, True), (0.75, False)])
def test_without_validation_rows_pairs_are_held_against_what_they_were_when_new(when_new: float, fires: bool):
    looking = Watch(bounds=Bounds(), updates_per_epoch=20, rows_per_update=16)
    rng, found = np.random.default_rng(0), []
    for step in range(1, 61):
        accuracy = when_new if step <= 20 else min(1.0, when_new + 0.025 * (step - 20))
        noise = float(rng.normal(0, 0.05)) if step <= 20 else 0.0
        found += [alarm.signal for alarm in looking.look(step, {"reward/accuracy": accuracy + noise})]
    assert ("accuracy_gap" in found) == fires


def test_a_held_out_measure_that_falls_by_chance_is_no_alarm():
    noisy = [0.60, 0.66, 0.59, 0.60, 0.58, 0.60]
    rewards = [1.0 + 0.1 * number for number in range(6)]

    def raised(error: float) -> list[str]:
        looking, found = watch(), []
        for step, (value, reward) in enumerate(zip(noisy, rewards, strict=True)):
            metrics = {"validation/held_out": value, "validation/held_out_error": error}
            found += [a.signal for a in looking.look(step, metrics | {"validation/reward/mean": reward})]
        return found

    assert raised(0.04) == []
    assert "held_out_fall" in raised(0.0)


def test_a_held_out_measure_that_falls_while_the_training_loss_falls_needs_no_reward():
    rows = [
        {"validation/held_out": value, "training/loss/total": 0.5 - 0.02 * n}
        for n, value in enumerate([0.6, 0.62, 0.64, 0.6, 0.5, 0.45, 0.4])
    ]
    assert "held_out_fall" in evaluated(watch(), rows)


def test_the_checkpoint_from_before_a_signal_went_beyond_its_bound_is_known():
    looking = watch()
    assert looking.before([10, 20]) is None, "all is well"
    for step in range(20, 24):
        looking.look(step, honest(step) | BAD["repetition"])
    assert looking.before([10, 19, 20, 23]) == 19
    assert looking.before([20, 23]) is None


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
    assert {row["signal"] for row in watched(Bounds())} == set(CURES)
    listed = {row["signal"]: row for row in watched(Bounds(kl=None, reward_collapse=None, held_out_fall=None))}
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
