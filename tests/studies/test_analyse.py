"""The comparison, from answers whose truth is known: figures, intervals, changes, hacking, stability, the sentence."""

from pathlib import Path
from typing import Any

import pytest

from sightline.studies.analyse import Results, analyse
from sightline.studies.page import write_study_page
from sightline.studies.plan import Planned, planned_runs
from sightline.studies.schema import Study
from sightline.studies.tables import columns, markdown
from sightline.world.tasks import make_question
from tests.studies.small import small_study

NUM = 40
RIGHT = [make_question("describe", "test", index).answer for index in range(NUM)]
WRONG = [make_question("describe", "test", index + 900).answer for index in range(NUM)]
QUALITY = "describe/quality"


def told(num_right: int, *, along: dict[str, int] | None = None) -> dict[str, Any]:
    """What a model said that describes the first scenes rightly and the others as if they were other scenes."""

    def some(number: int) -> list[str]:
        return RIGHT[:number] + WRONG[number:]

    texts = [[answer, answer] if index % 2 else [answer, "other"] for index, answer in enumerate(some(num_right))]
    return {
        "greedy": {"describe": some(num_right)},
        "samples": {"texts": texts, "surprise": [(2.0, 4.0)] * NUM},
        "along": {step: some(number) for step, number in (along or {}).items()},
    }


def cost(*, own: list[float] | None = None, **facts: Any) -> dict[str, Any]:
    own = own or [0.1, 0.2, 0.3, 0.4, 0.5]
    known = {"seconds": 60.0, "steps": 5, "labels": 100, "tokens": 5000, "alarms": [], "kl": []}
    return known | {"own": list(enumerate(own, 1))} | facts


def study_of(arms: dict[str, Any], **changes: Any) -> Study:
    return small_study(
        arms=arms, prepare=[], rows={"base": "world:base", "ceiling": "world:ceiling"}, measure=MEASURE, **changes
    )


MEASURE = {"scenes": {"describe": NUM}, "along": NUM, "diversity": {"prompts": NUM, "answers": 2}}


def results_of(study: Study, answers: dict[str, Any], facts: dict[str, Any] | None = None) -> Results:
    planned: list[Planned] = planned_runs(study, Path("/nowhere"))
    given = {"base": told(10), "ceiling": told(40)} | answers
    return analyse(study, planned, given, {run.name: (facts or {}).get(run.name, cost()) for run in planned})


def row(results: Results, name: str) -> Any:
    return next(one for one in results.rows if one.name == name)


def test_an_arm_is_the_mean_over_its_seeds_and_changes_are_against_the_start():
    study = study_of({"good": {}, "bad": {}}, seeds=[0, 1])
    found = results_of(study, {"good-0": told(30), "good-1": told(26), "bad-0": told(5), "bad-1": told(5)})
    good, base, ceiling = (row(found, name).figures[QUALITY] for name in ("good", "base", "ceiling"))
    assert good.estimate == pytest.approx(sum(good.seeds) / 2)
    assert ceiling.estimate == 1.0
    change = row(found, "good").changes[QUALITY]
    assert change.estimate == pytest.approx(good.estimate - base.estimate)
    gap = row(found, "good").gap_closed
    assert gap.estimate == pytest.approx((good.estimate - base.estimate) / (1 - base.estimate), rel=1e-6)
    assert found.best == "good"
    assert "good is best" in found.answer
    assert "Every other arm is clearly behind it." not in found.answer  # two seeds four scenes apart say little
    assert "Clearly worse than base: bad." in found.answer


def test_seeds_that_differ_widen_the_interval():
    study = study_of({"calm": {}, "wild": {}}, seeds=[0, 1, 2])
    answers = {f"calm-{seed}": told(20) for seed in range(3)}
    answers |= {"wild-0": told(12), "wild-1": told(20), "wild-2": told(28)}
    found = results_of(study, answers)
    calm, wild = (row(found, name).figures[QUALITY] for name in ("calm", "wild"))
    assert wild.high - wild.low > 2 * (calm.high - calm.low)
    same = row(found, "calm").changes[QUALITY]
    assert same.clear
    assert not row(found, "wild").changes[QUALITY].clear


def test_one_seed_has_the_interval_of_its_scenes_alone():
    found = results_of(study_of({"one": {}}), {"one-0": told(20)})
    figure = row(found, "one").figures[QUALITY]
    assert figure.seeds == (figure.estimate,)
    assert figure.low < figure.estimate < figure.high


def test_a_run_is_hacked_when_its_reward_rises_while_the_truth_falls():
    study = study_of({"turns": {}, "climbs": {}, "sinks": {}})
    along = {"turns-0": {"1": 35, "5": 12}, "climbs-0": {"1": 12, "5": 35}, "sinks-0": {"1": 8, "5": 2}}
    answers = {name: told(20, along=course) for name, course in along.items()}
    falling = cost(own=[0.5, 0.4, 0.3, 0.2, 0.1])
    found = results_of(study, answers, {"sinks-0": falling})
    assert [row(found, name).hacked for name in ("turns", "climbs", "sinks")] == [1, 0, 0]
    assert "Its own reward rose while the truth fell in turns (1 of 1)." in found.answer
    assert [point["step"] for point in row(found, "climbs").course] == [1, 5]
    assert row(found, "climbs").reached == 5000
    assert "hacked" in columns(study, found)[0]


def test_a_fall_that_chance_explains_is_no_hacking():
    study = study_of({"wobbles": {}})
    found = results_of(study, {"wobbles-0": told(20, along={"1": 21, "5": 20})})
    assert row(found, "wobbles").hacked == 0


def test_a_strength_is_stable_when_every_seed_is_near_the_best_and_variety_is_left():
    varied = {"task": "diversity", "name": "distinct_answers"}
    arms = {f"s{x}": {"family": "KL", "x": x} for x in (0.1, 1, 10)}
    study = study_of(arms, stable={"within": 0.1, "diversity": varied, "keeps": 0.5})
    mute = told(30)
    mute["samples"]["texts"] = [["same"] * 2] * NUM
    found = results_of(study, {"s0.1-0": told(31), "s1-0": told(30), "s10-0": told(12)})
    assert [row(found, name).stable for name in arms] == [True, True, False]
    assert "KL: stable for 0.1 to 1." in found.answer
    mute["samples"]["texts"] = [["a", "a", "a", "a"]] * NUM
    found = results_of(study, {"s0.1-0": mute, "s1-0": told(30), "s10-0": told(12)})
    assert row(found, "s0.1").stable is False


def test_strengths_that_are_stable_apart_from_each_other_are_no_range_and_gamed_ones_are_not_stable():
    varied = {"task": "diversity", "name": "distinct_answers"}
    arms = {f"s{x}": {"family": "KL", "x": x} for x in (0.1, 1, 10, 100)}
    study = study_of(arms, stable={"within": 0.1, "diversity": varied, "keeps": 0.5})
    along = {"1": 31, "5": 31}
    answers = {"s0.1-0": told(31, along=along), "s1-0": told(12, along={"1": 12, "5": 12})}
    answers |= {"s10-0": told(31, along=along), "s100-0": told(31, along=along)}
    found = results_of(study, answers)
    assert "KL: stable for 0.1 alone, 10 to 100." in found.answer
    answers["s10-0"] = told(31, along={"1": 38, "5": 12})  # its own reward rose meanwhile
    found = results_of(study, answers)
    assert row(found, "s10").hacked == 1
    assert row(found, "s10").stable is False
    assert "KL: stable for 0.1 alone, 100 alone." in found.answer


def test_what_is_clear_alone_need_not_be_clear_among_many_arms():
    pairs = {"best": 30, "close": 24}
    few = results_of(study_of({name: {} for name in pairs}), {f"{name}-0": told(num) for name, num in pairs.items()})
    many = pairs | {f"same{i}": 24 for i in range(18)}
    found = results_of(study_of({name: {} for name in many}), {f"{name}-0": told(num) for name, num in many.items()})
    assert few.rivals["close"].estimate == found.rivals["close"].estimate
    assert found.behind["close"] == pytest.approx(min(1.0, 19 * few.behind["close"]))
    assert "after Holm's correction for 20 arms" in "\n".join(markdown(study_of({name: {} for name in many}), found))


def test_tables_and_page_say_what_was_found(tmp_path: Path):
    study = study_of(
        {"good": {"note": "Of <own> kind."}, "grid": {"seeds": [0], "family": "f", "x": 0.0}},
        table=[{"task": "diversity", "name": "entropy", "unit": "number", "label": "entropy"}],
        charts=[{"title": "Over strength", "log": True, "y": {"task": "describe", "name": "quality"}}],
        mention=[{"task": "diversity", "name": "distinct_answers", "label": "variety"}],
    )
    answers = {"good-0": told(30, along={"5": 30}), "grid-0": told(20, along={"5": 20})}
    facts = {"good-0": cost(kl=[(5, 0.04)])}
    found = results_of(study, answers, facts)
    headings, rows = columns(study, found)
    assert [len(cells) for cells in rows] == [len(headings)] * 4
    lines = "\n".join(markdown(study, found))
    assert "variety" in lines
    assert "| 0.50 |" in lines  # nats a token
    assert "`good`: Of <own> kind." in lines
    html = write_study_page(tmp_path / "report.html", study, found).read_text()
    assert "Of &lt;own&gt; kind." in html
    assert "Much." in html
    assert "square root of the KL" in html
