"""Studies as files: those that ship hold together, overrides lie on top, mistakes say the cure."""

from pathlib import Path

import pytest

from sightline.config import ConfigError
from sightline.studies.plan import LIBRARY, costs, filled, load_study, planned_runs, recipe_of, study_names
from sightline.studies.schema import Trained
from tests.studies.small import small_study

OUT = Path("/studies")


def test_the_promised_studies_ship():
    assert {"dpo-baseline", "reward-sources", "kl", "dpo-vs-rl"} <= set(study_names())


@pytest.mark.parametrize("name", study_names())
@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
def test_a_study_that_ships_is_whole(name: str, quick: bool):
    study = load_study(name, quick=quick)
    assert study.name == name == (LIBRARY / f"{name}.yaml").stem
    runs = planned_runs(study, OUT)
    assert len(runs) <= 60
    made = {filled(step.out, out=OUT, seed=seed) for step in study.prepare for seed in study.seeds}
    for run in runs:
        recipe = recipe_of(study, run, OUT)
        assert {Path(file).name for file in recipe.data.files} <= made
        for reward in recipe.rewards:
            if "run" in reward.options:
                assert Path(str(reward.options["run"])).name in made
    for step in study.prepare:
        if not isinstance(step, Trained) and step.make == "labels":
            assert step.source in {other.out for other in study.prepare}
    assert study.primary.task in study.measure.scenes
    asked = {
        metric.key.partition("/")[0] + metric.key.partition("@")[1] + metric.key.partition("@")[2]
        for metric in (*study.table, *study.mention)
        if metric.task != "diversity"
    }
    assert asked <= set(study.measure.scenes)


@pytest.mark.parametrize("name", study_names())
def test_a_full_study_has_the_promised_seeds_and_short_runs(name: str):
    study = load_study(name)
    assert len(study.seeds) == (5 if name == "dpo-vs-rl" else 3)
    minutes = [cost.seconds / 60 for _, cost in costs(study, OUT).values() if cost.seconds is not None]
    assert max(minutes) <= 2.5


def test_runs_come_seed_by_seed_and_scaled_arms_last():
    study = small_study(
        seeds=[0, 1], arms={"late": {"equal_compute": "dpo"}, "dpo": {}, "grid": {"seeds": [1], "note": "one seed"}}
    )
    assert [run.name for run in planned_runs(study, OUT)] == ["dpo-0", "late-0", "dpo-1", "grid-1", "late-1"]


def test_texts_are_filled_wherever_they_stand():
    value = {"files": ["{out}/pairs-{seed}.jsonl"], "deep": {"cache": "{out}/kept"}, "number": 3}
    assert filled(value, out=Path("/here"), seed=4) == {
        "files": ["/here/pairs-4.jsonl"],
        "deep": {"cache": "/here/kept"},
        "number": 3,
    }


def test_overrides_and_the_quick_form_lie_on_top():
    study = load_study("kl", ["seeds=[7]", "base.train.steps=3"], quick=True)
    assert study.seeds == (7,)
    assert study.base["train"]["steps"] == 3
    assert study.scale == 0.1
    assert "dpo-0.03" not in study.arms


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["kll"], "kll: no such study; did you mean kl"),
        (["kl", "seedz=[1]"], "kl: seedz: unknown key"),
        (["kl", "against=nobody"], "against names 'nobody', which is neither a row nor an arm"),
        (["kl", "arms.ppo-0.equal_compute=nobody"], "is no arm"),
    ],
)
def test_mistakes_say_the_cure(words: list[str], problem: str):
    with pytest.raises(ConfigError, match=problem):
        load_study(words[0], words[1:])
