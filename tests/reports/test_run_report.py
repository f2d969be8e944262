"""A run's page is made from its folder alone, at any moment of the run."""

import math
from pathlib import Path

import pytest

from sightline.journal import Journal
from sightline.reports.metric_charts import chart_groups
from sightline.reports.run_report import run_page, series_of, write_run_report
from tests.reports.invented import HOSTILE, assert_self_contained, png


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


def test_charts_are_named_in_words_and_timing_comes_last(folder: Path):
    reader = assert_self_contained(run_page(folder))
    titles = [chart["aria-label"] for chart in reader.having("svg", role="img")]
    assert titles == ["Loss", "margin, chosen less rejected", "accuracy", "step"]


def test_metrics_of_unlike_units_share_no_axes():
    names = ("rollout/length", "rollout/cut", "rollout/distinct", "time/step_seconds", "time/tokens_per_second")
    groups = chart_groups({name: [(0.0, 1.0)] for name in names})
    assert groups["rollout"] == [["rollout/length"], ["rollout/cut", "rollout/distinct"]]
    assert groups["time"] == [["time/step_seconds"], ["time/tokens_per_second"]]


def test_metrics_of_unlike_size_share_no_axes():
    metrics = {"loss/dpo": [(0.0, 2.0)], "loss/nll": [(0.0, 0.4)], "loss/kl": [(0.0, 1e-5)]}
    assert chart_groups(metrics) == {"loss": [["loss/dpo", "loss/nll"], ["loss/kl"]]}


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


def test_samples_of_the_last_step_stand_beside_those_from_before(folder: Path):
    text = assert_self_contained(run_page(folder)).text
    assert text.index("An early answer.") < text.index("A late answer.")
    assert "1 of 2 sampled answers: those of update 100, beside those of update 50." in text


def rollout(name: str, **changes: object) -> dict[str, object]:
    """A group with a picture and two answers, the worse one first."""
    image = {"file": name, "sha256": "5e", "size": [64, 48], "seen": [64, 48]}
    answers = [
        {"text": "[]", "reward": 0.25, "parts": {"vision_r1": 0.25}, "advantage": -0.5, "length": 3},
        {"text": "A box.", "reward": 1.5, "parts": {"vision_r1": 1.5}, "advantage": 0.5, "length": 4},
    ]
    truth = {"objects": [{"label": "red star", "box": [4, 6, 20, 22]}]}
    row = {"rollout": 1, "prompt": "detect-7", "asked": "Locate every shape.", "images": [image], "truth": truth}
    return row | {"answers": answers} | changes


def test_rollouts_show_picture_boxes_and_rewards_best_first(folder: Path):
    with Journal.open(folder) as journal:
        journal.rollouts(1, [rollout(journal.picture(png(), "png"))])
    reader = assert_self_contained(run_page(folder))
    assert reader.text.index("A box.") < reader.text.index("[]")
    for words in ("Locate every shape.", "reward 1.5", "advantage", "vision_r1", "Rollout 1, update 1"):
        assert words in reader.text, words
    assert len(reader.having("img", alt="Picture with red star")) == 1


def test_of_a_large_group_the_ends_stand_open(folder: Path):
    answers = [{"text": f"Answer {i}.", "reward": float(i), "advantage": 0.0} for i in range(8)]
    with Journal.open(folder) as journal:
        journal.rollouts(1, [rollout(journal.picture(png(), "png"), answers=answers)])
    text = assert_self_contained(run_page(folder)).text
    assert "4 answers between" in text
    order = sorted(range(8), key=lambda i: text.index(f"Answer {i}."))
    assert order == [7, 6, 1, 0, 5, 4, 3, 2]


@pytest.mark.parametrize("name", ["../secret.png", "pictures/../../secret.png", "pictures/5e.png", "/etc/passwd", 7])
def test_a_picture_outside_its_folder_is_not_opened(folder: Path, tmp_path: Path, name: object):
    (tmp_path / "secret.png").write_bytes(png())
    with Journal.open(folder) as journal:
        journal.rollouts(1, [rollout(str(name), images=[{"file": name, "size": [64, 48]}])])
    (folder / "pictures").mkdir()
    (folder / "pictures" / "5e.png").symlink_to(tmp_path / "secret.png")  # a copied folder may hold anything
    reader = assert_self_contained(run_page(folder))
    assert "A box." in reader.text
    assert not reader.having("img")


@pytest.mark.parametrize(
    "changes",
    [{"images": 3}, {"images": [3]}, {"truth": {"objects": [{"box": ["a"]}]}}, {"answers": [3, {}]}, {"asked": None}],
)
def test_a_row_of_another_form_does_no_harm(folder: Path, changes: dict[str, object]):
    with Journal.open(folder) as journal:
        journal.rollouts(1, [rollout(journal.picture(png(), "png"), **changes)])
    assert_self_contained(run_page(folder))


def test_what_was_learned_stands_before_what_watched_over_it(folder: Path):
    with Journal.open(folder) as journal:
        journal.watched([{"signal": "margin", "metric": "reward/margin", "above": 9.0}])
    reader = assert_self_contained(run_page(folder))
    sections = [found["id"] for found in reader.having("section")]
    assert sections == ["metrics", "samples", "watch", "last", "skipped", "recipe"]
    assert "1 without an alarm" in reader.text


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
