"""A run's page is made from its folder alone, at any moment of the run."""

import math
from pathlib import Path

import pytest

from sightline.journal import Journal
from sightline.reports.run_report import chart_groups, run_page, series_of, write_run_report
from tests.reports.invented import HOSTILE, assert_self_contained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of a hundred steps."""
    recipe = {"name": "dpo_world", "seed": 0, "objective": {"kind": "dpo", "beta": 0.1}}
    with Journal.create(tmp_path / "run", recipe, {"python": "3.11"}) as journal:
        for step in range(1, 101):
            journal.metrics(
                step,
                {
                    "loss/dpo": 0.69 - step / 200,
                    "loss/nll": 0.3,
                    "reward/margin": step / 50,
                    "time/step": 0.8,
                },
            )
        journal.metrics(100, {"validation/accuracy": 0.9, "loss/dpo": math.nan})
        journal.samples(50, [{"prompt": "What is here?", "answer": "An early answer."}])
        journal.samples(100, [{"prompt": "What is here?", "answer": "A late answer.", "reward": 0.5}])
        journal.skipped([{"file": "pairs.jsonl", "line": 12, "problem": "is empty", "cure": "delete it"}])
        journal.status("done", step=100, seconds=80.5)
    return tmp_path / "run"


def test_the_page_tells_how_the_run_stands_and_what_it_logged(folder: Path):
    path = write_run_report(folder)
    assert path == folder / "report.html"
    reader = assert_self_contained(path.read_text(encoding="utf-8"))
    for words in (
        "dpo_world",
        "done",
        "80.5",
        "loss/dpo",
        "0.9000",
        "beta: 0.1",
        "1 in pairs.jsonl",
        "python",
    ):
        assert words in reader.text, words


def test_there_is_one_chart_per_group_and_timing_comes_last(folder: Path):
    reader = assert_self_contained(run_page(folder))
    titles = [chart["aria-label"] for chart in reader.having("svg", role="img")]
    assert titles == ["loss", "reward/margin", "validation/accuracy", "time/step"]


def test_metrics_of_unlike_size_share_no_axes():
    metrics = {
        "optim/grad_norm": [(0.0, 2.0)],
        "optim/learning_rate": [(0.0, 1e-5)],
        "optim/clipped": [(0.0, 0.4)],
    }
    assert chart_groups(metrics) == {"optim": [["optim/grad_norm", "optim/clipped"], ["optim/learning_rate"]]}


def test_a_crowded_group_is_cut_into_charts_of_eight():
    metrics = {f"loss/{i}": [(0.0, 1.0)] for i in range(20)}
    assert [len(names) for names in chart_groups(metrics)["loss"]] == [8, 8, 4]


def test_a_metric_that_is_always_zero_needs_no_chart_of_its_own():
    metrics = {"loss/dpo": [(0.0, 0.7)], "loss/skipped": [(0.0, 0.0)], "loss/missing": [(0.0, math.nan)]}
    assert chart_groups(metrics) == {"loss": [["loss/dpo", "loss/skipped", "loss/missing"]]}


def test_series_keep_what_is_a_number():
    rows = [{"step": 1, "a": 1.0, "note": "text"}, {"step": 2, "a": math.nan}]
    series = series_of(rows)
    assert list(series) == ["a"]
    assert series["a"][0] == (1.0, 1.0)
    assert math.isnan(series["a"][1][1])


def test_samples_are_those_of_the_last_step(folder: Path):
    text = assert_self_contained(run_page(folder)).text
    assert "A late answer." in text
    assert "An early answer." not in text
    assert "1 of 2 sampled answers: those of step 100" in text


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path):
    with Journal.create(tmp_path / "run", {"name": "new"}, {}):
        pass
    text = assert_self_contained(run_page(tmp_path / "run")).text
    assert "Nothing has been logged yet." in text
    assert "running" in text


def test_a_torn_last_line_is_left_out(folder: Path):
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 101, "loss/dp')
    assert_self_contained(run_page(folder))


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no run"):
        write_run_report(tmp_path)


def test_hostile_text_anywhere_is_inert(tmp_path: Path):
    text = HOSTILE.replace("\ud800", "").replace("\x1b", "")
    with Journal.create(tmp_path / "run", {"name": text, text: text}, {text: text}) as journal:
        journal.metrics(1, {text: 1.0, f"{text}/b": 2.0})
        journal.samples(1, [{text: text, "answer": [text, {text: 1}]}])
        journal.skipped([{"file": text, text: text}])
        journal.status("failed", reason=text)
    path = write_run_report(tmp_path / "run")
    assert_self_contained(path.read_text(encoding="utf-8"))


def test_a_run_that_learns_from_rewards_shows_rewards_first():
    names = ("loss/policy", "time/step", "rollout/length", "reward/mean", "validation/reward/mean")
    groups = chart_groups({name: [(0.0, 1.0)] for name in names})
    assert list(groups) == ["validation", "reward", "rollout", "loss", "time"]
